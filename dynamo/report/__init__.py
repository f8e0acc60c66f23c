"""`dynamo report RUN`: what a run has to tell, as one HTML page that needs nothing but itself."""
