"""Amazon MQ for ActiveMQ: a broker's endpoints, who may do what, the template of a pair, and the drill."""
