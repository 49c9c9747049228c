"""Engines that are built on the device: found, built, kept under the device's fingerprint."""
