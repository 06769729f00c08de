//! Alerts to webhooks and MQTT.
