// ActiveMQ's own failover transport with its defaults: sends a persistent message every 20 ms until it is killed.
// java -cp ... Failover PORT PORT; a line of output for each acknowledged send that comes after 0.4 s without one:
// the time in seconds on the system's monotonic clock.
import javax.jms.Connection;
import javax.jms.DeliveryMode;
import javax.jms.MessageProducer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnectionFactory;

public final class Failover {
    public static void main(String[] ports) throws Exception {
        String uri = "failover:(tcp://127.0.0.1:" + ports[0] + ",tcp://127.0.0.1:" + ports[1] + ")";
        Connection connection = new ActiveMQConnectionFactory(uri).createConnection();
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createTopic("bench.failover"));
        producer.setDeliveryMode(DeliveryMode.PERSISTENT);
        double last = 0;
        while (true) {
            producer.send(session.createTextMessage("x")); // returns when the broker has acknowledged it
            double now = System.nanoTime() / 1e9;
            if (now - last > 0.4) {
                System.out.printf(java.util.Locale.ROOT, "%.6f%n", now);
                System.out.flush();
            }
            last = now;
            Thread.sleep(20);
        }
    }
}
