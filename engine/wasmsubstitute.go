package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	cerrdefs "github.com/containerd/errdefs"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver/memo"
)

// filesID is the name under which the daemon is offered single files that stand for the
// stages they were made by.
const filesID = "zlayer-files"

// wasmStatKey is where the record of a stage's binary has what the file system says of it.
const wasmStatKey = "zlayer.stat"

// fileStat is what a file system says of a file besides its content.
type fileStat struct {
	Mode    uint32 `json:"mode"`
	UID     int    `json:"uid"`
	GID     int    `json:"gid"`
	ModTime int64  `json:"modTime"` // in nanoseconds
}

// copied is a stage that has nothing but one file of another stage, as the last one of a
// WebAssembly build.
type copied struct {
	from *graph.Stage
	// input is the place of from among the inputs of the operation that copies.
	input int
	copy  *pb.FileActionCopy
}

// copiedFile takes such a stage apart; ok is false for all others, and where the file
// becomes another one on the way.
func copiedFile(s *graph.Stage, head digest.Digest) (c copied, ok bool) {
	op := s.Op(head)
	actions := op.GetFile().GetActions()
	if len(actions) != 1 || actions[0].Input != int64(pb.Empty) {
		return c, false
	}
	c.copy, c.input = actions[0].GetCopy(), int(actions[0].SecondaryInput)
	if c.copy == nil || c.input < 0 || c.input >= len(op.Inputs) {
		return c, false
	}
	if c.copy.Owner != nil || c.copy.Mode != -1 || c.copy.ModeStr != "" || len(c.copy.IncludePatterns)+len(c.copy.ExcludePatterns) > 0 {
		return c, false
	}
	in := graph.Result{Digest: digest.Digest(op.Inputs[c.input].Digest), Index: int(op.Inputs[c.input].Index)}
	for _, i := range s.Inputs {
		if i.Kind == graph.InputCopy && i.Stage.Result == in {
			c.from = i.Stage
			return c, true
		}
	}
	return c, false
}

// key is what the file is filed under in the memo: it is the same one whoever copies it.
func (c copied) key(k *keys) digest.Digest {
	h := graph.NewHasher("zlayer.stage.file.v1")
	h.String(k.stages[c.from.ID].key.String())
	h.String(c.copy.Src)
	h.Int(int(c.copy.Timestamp)) // which it has from then on
	return h.Digest()
}

// statWasm asks the daemon for what its file system says of the binary, which is no part
// of what it exports to us. That it does not tell costs a compilation some day.
func (j *job) statWasm(ctx context.Context, ref gwclient.Reference) {
	b := j.wasm.compiled()
	if b == nil || ref == nil {
		return
	}
	st, err := ref.StatFile(ctx, gwclient.StatRequest{Path: b.File})
	if err != nil || st.Mode&^uint32(fs.ModePerm) != 0 || len(st.Xattrs) > 0 {
		return // more than fileStat has
	}
	j.wasm.setStat(&fileStat{Mode: st.Mode, UID: int(st.Uid), GID: int(st.Gid), ModTime: st.ModTime})
}

// rememberWasmStage files the binary as a file of the stage that has made it, so that
// builds which copy it out of there can do without that stage.
func (j *job) rememberWasmStage(ctx context.Context, k *keys, data []byte) {
	st := j.wasm.statted()
	if st == nil {
		return
	}
	said, err := json.Marshal(st)
	if err != nil {
		return
	}
	for _, s := range k.graph.Outputs() {
		c, ok := copiedFile(s, firstCopy(s))
		if !ok {
			continue
		}
		_ = j.run.memo.Put(ctx, &memo.Record{
			Key: c.key(k), Kind: memo.KindFile, Digest: digest.FromBytes(data), Size: int64(len(data)), Names: j.outputs.names,
			Metadata: map[string]string{wasmStatKey: string(said)}, Tool: j.engine.cfg.Version, Created: time.Now(),
		})
	}
}

// firstCopy is the first of the operations on files that a stage ends in: where an SBOM
// was asked for, another one follows, which copies nothing.
func firstCopy(s *graph.Stage) digest.Digest {
	head := s.Head
	for {
		op := s.Op(head)
		a := op.GetFile().GetActions()
		if len(a) != 1 || a[0].Input < 0 || int(a[0].Input) >= len(op.Inputs) {
			return head
		}
		head = digest.Digest(op.Inputs[a[0].Input].Digest)
	}
}

// takeFile finds what a stage would copy among what earlier builds have left in the
// store, so that the stage which has made it need not be built.
func (j *job) takeFile(ctx context.Context, s *graph.Stage) (taken, bool) {
	c, ok := copiedFile(s, s.Head)
	if !ok || j.builtBy.has(j.compiled.stages[c.from.ID].key) {
		return taken{}, false
	}
	rec, err := j.run.memo.Get(ctx, c.key(j.compiled))
	if err != nil || rec.Kind != memo.KindFile {
		return taken{}, false
	}
	var st fileStat
	data := j.storedBlob(ctx, rec)
	if data == nil || json.Unmarshal([]byte(rec.Metadata[wasmStatKey]), &st) != nil {
		return taken{}, false
	}
	desc, err := fileImage(ctx, j.run.files, c, data, st)
	return taken{desc: desc, file: &c}, err == nil
}

// graft has the operation that copies read the file from the engine.
func (t taken) graft(sess *session.Session) graph.Graft {
	from := t.file.from
	op := from.Op(from.Head).CloneVT()
	op.Platform = pb.PlatformFromSpec(from.Platform)
	substitute(op, sess, t.desc, filesID)
	return graph.Graft{Input: t.file.input, Source: op, Name: fmt.Sprintf("[internal] take %s of %s from the store, %s", t.file.copy.Src, from.Name, t.desc.Digest.Encoded()[:12])}
}

// fileImage makes an image of one file, in a content store.
func fileImage(ctx context.Context, to content.Store, c copied, data []byte, st fileStat) (ocispecs.Descriptor, error) {
	layer, err := fileLayer(c.copy.Src, data, st)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	put := func(mediaType string, blob []byte) (ocispecs.Descriptor, error) {
		d := ocispecs.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		err := content.WriteBlob(ctx, to, d.Digest.String(), bytes.NewReader(blob), d)
		if errors.Is(err, cerrdefs.ErrAlreadyExists) {
			err = nil
		}
		return d, err
	}
	m := ocispecs.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispecs.MediaTypeImageManifest}
	l, err := put(ocispecs.MediaTypeImageLayer, layer)
	if err != nil {
		return l, err
	}
	m.Layers = []ocispecs.Descriptor{l}
	config, err := json.Marshal(ocispecs.Image{Platform: c.from.Platform, RootFS: ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{l.Digest}}})
	if err != nil {
		return l, err
	}
	if m.Config, err = put(ocispecs.MediaTypeImageConfig, config); err != nil {
		return l, err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return l, err
	}
	return put(ocispecs.MediaTypeImageManifest, raw)
}

// fileLayer is a layer with one file and the directories above it.
func fileLayer(name string, data []byte, st fileStat) ([]byte, error) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	dir := ""
	for part := range strings.SplitSeq(strings.TrimPrefix(path.Dir(path.Clean("/"+name)), "/"), "/") {
		if part == "" {
			continue
		}
		dir += part + "/"
		if err := tw.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
	}
	err := tw.WriteHeader(&tar.Header{
		Name: strings.TrimPrefix(path.Clean("/"+name), "/"), Typeflag: tar.TypeReg, Size: int64(len(data)), Mode: int64(st.Mode),
		Uid: st.UID, Gid: st.GID, ModTime: time.Unix(0, st.ModTime), Format: tar.FormatPAX,
	})
	if err != nil {
		return nil, err
	}
	if _, err := tw.Write(data); err != nil {
		return nil, err
	}
	err = tw.Close()
	return b.Bytes(), err
}
