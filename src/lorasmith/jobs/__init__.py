"""One request for each verb, made of fields as settings are, and what carries it out."""
