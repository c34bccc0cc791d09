"""What a drawn picture is paid for: showing its scene, being the character, not being a copy, not being its sibling."""
