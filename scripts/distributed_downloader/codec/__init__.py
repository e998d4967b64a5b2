"""The bytes of a stranger in, an image as it is stored out."""
