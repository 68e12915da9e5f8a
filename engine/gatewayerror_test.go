package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zlayer-dev/zlayer/frontend"
)

// missingGateway is a gateway to a daemon that finds no image.
type missingGateway struct {
	imageGateway
	code codes.Code
}

func (g *missingGateway) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return "", "", nil, grpcerrors.FromGRPC(status.Error(g.code, ref+": not found"))
}

// TestGatewayErrorsKeepTheirWords: what the frontend says about an error of BuildKit's
// gets to the user, who hears of it from BuildKit.
func TestGatewayErrorsKeepTheirWords(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"ZImagefile": "stages:\n  other: {base: scratch}\n  lib: {build: lib}\n", "lib/Dockerfile": "# 1\nFROM busybox:0.0.1\n"})
	for _, code := range []codes.Code{codes.Unknown, codes.NotFound} {
		gw := &missingGateway{imageGateway{diskGateway: diskGateway{opts: map[string]string{"filename": "ZImagefile"}}, os: "linux"}, code}
		_, err := GatewayBuild(t.Context(), &frontend.Files{Client: gw, Dirs: map[string]string{"context": dir, "dockerfile": dir}})
		if err == nil {
			t.Fatal("got no error")
		}
		heard := grpcerrors.FromGRPC(grpcerrors.ToGRPC(t.Context(), err))
		if got := heard.Error(); !strings.HasSuffix(got, err.Error()) || !strings.Contains(got, "busybox:0.0.1: ") {
			t.Errorf("the frontend says %q, its user hears %q", err, got)
		}
		if grpcerrors.Code(heard) != code {
			t.Errorf("the code is %v, want %v", grpcerrors.Code(heard), code)
		}
		var places []string
		for _, s := range errdefs.Sources(heard) {
			places = append(places, fmt.Sprint(s.Info.Filename, ":", s.Ranges[0].Start.Line))
		}
		if want := []string{"ZImagefile:3", "lib/Dockerfile:2"}; !slices.Equal(places, want) {
			t.Errorf("the places are %q, want %q", places, want)
		}
	}
}
