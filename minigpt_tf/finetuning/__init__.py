"""Records of questions and answers, and models that are trained on them further."""
