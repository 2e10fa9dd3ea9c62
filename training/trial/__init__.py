"""The live trial: photos from the result topic, judged by people who do not know what the model said of them."""
