"""The filter contract, the pipeline that runs filters over rows, and the search for duplicates."""
