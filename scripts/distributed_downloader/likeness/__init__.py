"""Images that look alike: perceptual hashes, and which of millions are near each other."""
