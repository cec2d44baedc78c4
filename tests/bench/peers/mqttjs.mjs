// MQTT.js with two servers and its defaults: publishes to TOPIC fifty times a second until it is killed.
// node mqttjs.mjs TOPIC PORT PORT
import mqtt from "mqtt";

const [topic, ...ports] = process.argv.slice(2);
const servers = ports.map((port) => ({ protocol: "mqtt", host: "127.0.0.1", port: Number(port) }));
const client = mqtt.connect({ servers });
client.on("error", () => {}); // it goes on by itself; without a listener the process would end
client.once("connect", () => {
  setInterval(() => client.publish(topic, "x", { qos: 1 }), 20);
  console.log("ready");
});
