package dockerfile

import (
	"context"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	digest "github.com/opencontainers/go-digest"
)

// Short reports whether the name of an image is short, that is, says no registry:
// what stands before the first slash is neither a host with a dot or a port nor
// localhost. Docker Hub is what others take short names to mean.
func Short(name string) bool {
	first, _, found := strings.Cut(name, "/")
	return !found || !strings.ContainsAny(first, ".:") && first != "localhost"
}

// shortResolver looks up images that the file calls by a short name with
// Options.Resolve. To BuildKit a short name and its full form are the same; a file
// that has both means Docker Hub by both.
type shortResolver struct {
	gwclient.Client
	// names are the short names of the file, by their full form.
	names   map[string]string
	resolve func(context.Context, string, sourceresolver.Opt) (string, digest.Digest, []byte, error)
}

func (o Options) shortResolver(c gwclient.Client, f *file) *shortResolver {
	r := &shortResolver{Client: c, names: map[string]string{}, resolve: o.Resolve}
	qualified := map[string]bool{}
	for _, d := range f.decls {
		for _, n := range d.names {
			named, err := reference.ParseNormalizedNamed(n.name)
			if err != nil {
				continue
			}
			full := reference.TagNameOnly(named).String()
			if Short(n.name) {
				r.names[full] = n.name
			} else {
				qualified[full] = true
			}
		}
	}
	for full := range qualified {
		delete(r.names, full)
	}
	return r
}

// ResolveImageConfig implements gwclient.Client. The reference it returns is the
// one that the lowering puts into the LLB.
func (r *shortResolver) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if name, ok := r.names[ref]; ok && opt.ImageOpt != nil {
		return r.resolve(ctx, name, opt)
	}
	return r.Client.ResolveImageConfig(ctx, ref, opt)
}
