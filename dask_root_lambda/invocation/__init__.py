"""One invocation: a request goes to a function, on AWS, emulated or in this process, and is answered."""
