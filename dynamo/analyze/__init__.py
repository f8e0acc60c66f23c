"""`dynamo analyze KIND --run RUN`: one question to a finished run, answered as numbers (JSON) and as a picture."""
