"""RDataFrame: all that knows ROOT's DistRDF. Its graphs are booked, checked, packed and lowered here."""
