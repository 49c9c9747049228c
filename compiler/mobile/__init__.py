"""The front end that TFLite and Core ML share: models as mobile engines can run them."""
