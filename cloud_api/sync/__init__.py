"""The server's side of the sync protocol, a file a step: receive and judge a push, apply it set by set, give out pages of the feed."""
