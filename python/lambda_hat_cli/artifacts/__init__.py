"""The folders that stages hand each other: layout, checksums, reading and writing."""
