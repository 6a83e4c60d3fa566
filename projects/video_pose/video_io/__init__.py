"""Videos and pictures as files: `reading` (what a video's packets say), `pictures` (modes, pages,
orientation), `writing` (videos) and `container_size` (whether a file was cut off)."""
