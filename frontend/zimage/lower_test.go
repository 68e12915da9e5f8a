package zimage

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// images resolves every name, to an image that is not empty.
type images struct{}

func (images) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	img := dockerspec.DockerOCIImage{}
	img.OS, img.Architecture = "linux", "amd64"
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		img.Platform = *opt.ImageOpt.Platform
	}
	img.Config.Env = []string{"PATH=/base/bin"}
	img.Config.Cmd = []string{"base-cmd"}
	img.RootFS = ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("layer")}}
	dt, err := json.Marshal(img)
	return ref, digest.FromString(ref), dt, err
}

// lower gives what BuildKit makes of a Dockerfile: the image config and the operations.
func lower(text []byte, args map[string]string, platform ocispecs.Platform, target string) (*dockerspec.DockerOCIImage, []*pb.Op, error) {
	caps := pb.Caps.CapSet(pb.Caps.All())
	res, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, dockerfile2llb.ConvertOpt{
		Config:         dockerui.Config{BuildArgs: args, Target: target},
		MetaResolver:   images{},
		TargetPlatform: &platform,
		LLBCaps:        &caps,
		AllStages:      target == "",
	})
	if err != nil {
		return nil, nil, err
	}
	def, err := res.State.Marshal(context.Background())
	if err != nil {
		return nil, nil, err
	}
	var ops []*pb.Op
	for _, dt := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(dt); err != nil {
			return nil, nil, fmt.Errorf("decoding an operation: %w", err)
		}
		ops = append(ops, op)
	}
	return res.Image, ops, nil
}

func linux() ocispecs.Platform { return ocispecs.Platform{OS: "linux", Architecture: "amd64"} }

// build parses, converts and lowers a ZImagefile.
func build(t testing.TB, text string, args map[string]string) (*dockerspec.DockerOCIImage, []*pb.Op) {
	t.Helper()
	df := convert(t, text, Options{BuildArgs: args})
	img, ops, err := lower(df.Text, merged(args, df.BuildArgs), linux(), "")
	if err != nil {
		t.Fatalf("lowering: %v\n%s", err, df.Text)
	}
	return img, ops
}

// convert parses and converts a ZImagefile.
func convert(t testing.TB, text string, opt Options) *Dockerfile {
	t.Helper()
	f, err := Parse("ZImagefile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	df, err := Convert(f, opt)
	if err != nil {
		t.Fatal(err)
	}
	return df
}

// commands lists the arguments of what is run.
func commands(ops []*pb.Op) [][]string {
	var out [][]string
	for _, op := range ops {
		if e := op.GetExec(); e != nil {
			out = append(out, e.Meta.Args)
		}
	}
	return out
}

// copies lists what is copied, as SOURCE -> DESTINATION.
func copies(ops []*pb.Op) []string {
	var out []string
	for _, op := range ops {
		if f := op.GetFile(); f != nil {
			for _, a := range f.Actions {
				if c := a.GetCopy(); c != nil {
					out = append(out, c.Src+" -> "+c.Dest)
				}
			}
		}
	}
	return out
}

func merged(maps ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}
