"""What the commands of the Hierarchical Reasoning Model share."""
