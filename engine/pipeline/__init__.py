"""The pipeline: a recipe's stages in order, skipped when done, with the record of what each was made from."""
