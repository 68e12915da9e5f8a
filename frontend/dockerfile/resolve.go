package dockerfile

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"
)

// resolveCache asks for the config of each image once per build, however many
// stages and platforms name it. Failures are remembered too: a name that does
// not resolve is one failure, not one per stage.
type resolveCache struct {
	gwclient.Client
	mu    sync.Mutex
	calls map[string]*resolveCall
}

// resolveCall is a look-up that is under way or done.
type resolveCall struct {
	done   chan struct{}
	ref    string
	digest digest.Digest
	config []byte
	err    error
}

func newResolveCache(c gwclient.Client) *resolveCache {
	return &resolveCache{Client: c, calls: map[string]*resolveCall{}}
}

// ResolveImageConfig implements gwclient.Client. A look-up belongs to all who
// wait for it: it goes on when the first caller gives up, and ends with the build.
func (c *resolveCache) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	key, err := json.Marshal(struct {
		Ref string
		Opt sourceresolver.Opt
	}{ref, opt})
	if err != nil {
		return "", "", nil, err
	}
	c.mu.Lock()
	call := c.calls[string(key)]
	if call == nil {
		call = &resolveCall{done: make(chan struct{})}
		c.calls[string(key)] = call
		go func() {
			defer close(call.done)
			call.ref, call.digest, call.config, call.err = c.Client.ResolveImageConfig(context.WithoutCancel(ctx), ref, opt)
		}()
	}
	c.mu.Unlock()
	select {
	case <-ctx.Done():
		// not the cause: that is the failure of another stage, which must not be told as this one's
		return "", "", nil, ctx.Err()
	case <-call.done:
		return call.ref, call.digest, call.config, call.err
	}
}
