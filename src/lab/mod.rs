//! The loopback IoT Hub (feature `lab`).
