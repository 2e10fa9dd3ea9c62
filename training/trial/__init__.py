"""The live trial: people judge photos from the result topic without knowing the model's answers."""
