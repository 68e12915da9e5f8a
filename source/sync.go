package source

import (
	"context"
	"encoding/hex"
	"strconv"
)

// SyncID returns an id that has to be part of the key under which a daemon keeps
// its copy of a directory. BuildKit fetches a file again only if its size, time
// or mode differ from those of its copy. So the id changes whenever a file is
// found that may not be what those say: other bytes or attributes under a time
// that was seen before, or a time that went back. Under a new id the daemon
// begins with nothing.
//
// SyncID has to be asked after the views of the directory have been made and
// their digests computed, and before the daemon reads. It hashes what the views
// hold beyond the selections, because all of that will be sent, and writes the
// index, so that an id is never given out and then forgotten; if that fails, or
// without an index, the id is one that no other run has. An id never comes back.
func (t *Trees) SyncID(ctx context.Context, dir string) string {
	r := t.node(dir).root.Load()
	if r == nil || r.file == "" {
		return t.random
	}
	t.mu.Lock()
	var views []*View
	for _, v := range t.views {
		if v.root == r {
			views = append(views, v)
		}
	}
	t.mu.Unlock()
	for _, v := range views {
		if err := v.walkAll(ctx); err != nil {
			return t.random
		}
	}
	r.mu.Lock()
	r.synced = true
	r.mu.Unlock()
	if err := t.save(r); err != nil {
		return t.random
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return hex.EncodeToString(r.base.id[:]) + "." + strconv.FormatUint(r.base.generation, 10)
}
