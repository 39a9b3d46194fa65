"""Records of many formats -> rows of token ids in batches."""
