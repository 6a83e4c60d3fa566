"""Videos and pictures as files: `reading` (what a video's packets and container say), `pictures`
(modes, pages, orientation) and `writing` (videos)."""
