"""What client and function share: errors, wire format, task records, stores and file headers.

Light enough for the function: the standard library and cloudpickle; boto3 only once a store is opened.
"""
