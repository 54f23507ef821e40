"""The paper's tables on the public data sets they name, read in their own layouts, published rows beside ours."""
