package graph

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// keyEpoch is counted up when stages of equal keys would no longer give the same
// result: every memo is cold after that.
const keyEpoch = 1

// Key is the content address of a result: what the build file says, what every
// source it reads holds, and the platform. Equal keys give results that may stand
// for each other. Names, positions, times of files, values of secrets, session ids
// and the places of local directories take no part.
type Key digest.Digest

// String implements fmt.Stringer.
func (k Key) String() string { return string(k) }

// Take is what an operation takes out of a local source. The zero value is all of it.
type Take struct {
	// Path is the path in the source; "" and "/" are its root.
	Path string
	// Wildcard: Path is a pattern.
	Wildcard bool
	// FollowSymlink: a link at the end of Path stands for what it points at.
	FollowSymlink bool
	// DirContents: of a directory its entries are taken, not itself.
	DirContents bool
	// Include and Exclude are patterns of what is taken below Path.
	Include, Exclude []string
}

// PartKind says what a [Part] is.
type PartKind string

// The kinds of parts.
const (
	// PartInstruction: an operation as the build file says it.
	PartInstruction PartKind = "instruction"
	// PartFiles: files of a local source.
	PartFiles PartKind = "files"
	// PartImage: a base image, by digest.
	PartImage PartKind = "image"
	// PartSource: another source of fixed content, such as a git commit.
	PartSource PartKind = "source"
	// PartStage: another stage.
	PartStage PartKind = "stage"
	// PartConfig: the image config, the platform and the epoch of the stage.
	PartConfig PartKind = "config"
)

// Part is one of the things a stage's key is made of.
type Part struct {
	Kind PartKind
	// Name is for people: the text of a step, an image reference, the name of a stage.
	Name string
	// Value is equal where the part is equal.
	Value digest.Digest
	// Pos is where the build file asks for it.
	Pos Pos
	// Source and Take say which files a PartFiles is about.
	Source Source
	Take   Take
}

// NoKeyError says why a stage has no key: something it reads can be different each
// time, so it has to be given to BuildKit each time.
type NoKeyError struct {
	// Step is the operation at fault; Reason says what is wrong with it.
	Step   Step
	Reason string
}

// Error implements error.
func (e *NoKeyError) Error() string {
	if e.Step.Pos.IsZero() {
		return e.Step.Name + ": " + e.Reason
	}
	return fmt.Sprintf("%s: %s: %s", e.Step.Pos, e.Step.Name, e.Reason)
}

// Keyer computes the keys of stages. Operations that stages share are looked at
// once. It is for one goroutine.
type Keyer struct {
	// Local gives the digest of what take takes out of a local source.
	Local func(ctx context.Context, src Source, take Take) (digest.Digest, error)
	// Pin gives the source of fixed content that a source is locked to, or the source
	// itself; nil locks nothing.
	Pin func(Source) (Source, error)

	ops    map[digest.Digest]keyed
	stages map[digest.Digest]keyedStage
}

// keyed is what is known about an operation.
type keyed struct {
	// key is empty for a local source, whose digest depends on its reader.
	key   digest.Digest
	local *Source
	err   error
}

type keyedStage struct {
	key   Key
	parts []Part
	err   error
}

// Key returns the key of a stage and the parts it is made of, in the order of the
// stage's steps. The error is a [NoKeyError], or one of Local.
func (k *Keyer) Key(ctx context.Context, s *Stage) (Key, []Part, error) {
	if k.stages == nil {
		k.ops, k.stages = map[digest.Digest]keyed{}, map[digest.Digest]keyedStage{}
	}
	if ks, ok := k.stages[s.ID]; ok {
		return ks.key, ks.parts, ks.err
	}
	ks := k.stage(ctx, s)
	k.stages[s.ID] = ks
	return ks.key, ks.parts, ks.err
}

func (k *Keyer) stage(ctx context.Context, s *Stage) keyedStage {
	var ks keyedStage
	seen := map[*Stage]bool{}
	for _, in := range s.Inputs {
		if seen[in.Stage] {
			continue
		}
		seen[in.Stage] = true
		key, _, err := k.Key(ctx, in.Stage)
		if err != nil {
			return keyedStage{err: err}
		}
		ks.parts = append(ks.parts, Part{Kind: PartStage, Name: in.Stage.Name, Value: digest.Digest(key), Pos: in.Pos})
	}
	for i, o := range s.ops {
		ko, parts := k.op(ctx, o, s.Steps[i])
		k.ops[o.digest] = ko
		if ko.err != nil {
			return keyedStage{err: ko.err}
		}
		ks.parts = append(ks.parts, parts...)
	}
	h := NewHasher("zlayer.key.v" + strconv.Itoa(keyEpoch))
	if !s.Terminal() {
		head := k.ops[s.Head]
		if head.local != nil {
			d, err := k.Local(ctx, *head.local, Take{})
			if err != nil {
				return keyedStage{err: err}
			}
			head.key = d
			ks.parts = append(ks.parts, Part{Kind: PartFiles, Name: head.local.Ref, Value: d, Source: *head.local})
		}
		h.String(string(head.key))
	}
	h.Int(s.headIndex)
	config := configDigest(s)
	h.String(string(config))
	ks.parts = append(ks.parts, Part{Kind: PartConfig, Name: "image config", Value: config, Pos: s.Pos})
	ks.key = Key(h.Digest())
	return ks
}

// configDigest covers what exporting a stage depends on besides its file system.
func configDigest(s *Stage) digest.Digest {
	h := NewHasher("zlayer.key.config.v1")
	h.String(platforms.FormatAll(s.Platform))
	h.Bytes(s.Config)
	h.Bytes(s.BaseConfig)
	if s.Epoch != nil {
		h.Int(1)
		h.Int(int(s.Epoch.Unix()))
	} else {
		h.Int(0)
	}
	return h.Digest()
}

// op computes the key of an operation whose inputs have theirs.
func (k *Keyer) op(ctx context.Context, o op, step Step) (keyed, []Part) {
	for _, in := range o.Inputs {
		if _, ok := k.ops[digest.Digest(in.Digest)]; !ok {
			return keyed{err: fmt.Errorf("computing the key of %s: an operation it reads is part of no stage before it", step.Name)}, nil
		}
	}
	if src := o.GetSource(); src != nil {
		s := newSource(src)
		if k.Pin != nil {
			pinned, err := k.Pin(*s)
			if err != nil {
				return keyed{err: err}, nil
			}
			s = &pinned
		}
		return sourceKey(o, s, step)
	}
	own, err := ownBytes(o.Op, step)
	if err != nil {
		return keyed{err: err}, nil
	}
	oh := NewHasher("zlayer.key.op.v1")
	oh.Bytes(own)
	parts := []Part{{Kind: PartInstruction, Name: step.Name, Value: oh.Digest(), Pos: step.Pos}}
	h := NewHasher("zlayer.key.step.v1")
	h.Bytes(own)
	h.Int(len(o.Inputs))
	for i, in := range o.Inputs {
		ki := k.ops[digest.Digest(in.Digest)]
		if ki.local == nil {
			h.String(string(ki.key))
			h.Int(int(in.Index))
			continue
		}
		takes := takesOf(o.Op, i)
		h.Int(len(takes))
		for _, t := range takes {
			d, err := k.Local(ctx, *ki.local, t)
			if err != nil {
				return keyed{err: err}, nil
			}
			h.String(string(d))
			parts = append(parts, Part{Kind: PartFiles, Name: step.Name, Value: d, Pos: step.Pos, Source: *ki.local, Take: t})
		}
	}
	return keyed{key: h.Digest()}, parts
}

// ownBytes is an operation without its inputs and without what differs between
// callers that want the same.
func ownBytes(o *pb.Op, step Step) ([]byte, error) {
	c := o.CloneVT()
	c.Inputs = nil
	switch {
	case c.GetBuild() != nil:
		return nil, &NoKeyError{Step: step, Reason: "what it builds is not known before it runs"}
	case c.GetExec() != nil:
		if m := c.GetExec().Meta; m != nil {
			m.ProxyEnv = nil // BuildKit keeps proxies out of its cache keys, too
		}
	case c.GetOp() == nil:
		return nil, errors.New("computing a key: an operation of a kind that is not known")
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("computing the key of %s: %w", step.Name, err)
	}
	return b, nil
}

// takesOf lists what an operation takes out of its i-th input, which is a local
// source.
func takesOf(o *pb.Op, i int) []Take {
	var takes []Take
	switch {
	case o.GetExec() != nil:
		for _, m := range o.GetExec().Mounts {
			if int(m.Input) == i {
				takes = append(takes, Take{Path: m.Selector, FollowSymlink: true})
			}
		}
	case o.GetFile() != nil:
		for _, a := range o.GetFile().Actions {
			if int(a.Input) == i {
				return []Take{{}}
			}
			if int(a.SecondaryInput) != i {
				continue
			}
			c := a.GetCopy()
			if c == nil {
				return []Take{{}}
			}
			takes = append(takes, Take{
				Path: c.Src, Wildcard: c.AllowWildcard, DirContents: c.DirCopyContents,
				// unpacking an archive follows links
				FollowSymlink: c.FollowSymlink || c.AttemptUnpackDockerCompatibility,
				Include:       c.IncludePatterns, Exclude: c.ExcludePatterns,
			})
		}
	default:
		return []Take{{}}
	}
	return takes
}

// unhashed are the attributes of sources that say how something is fetched, not what.
var unhashed = map[string]bool{
	pb.AttrImageResolveMode:   true,
	pb.AttrImageRecordType:    true,
	pb.AttrOCILayoutSessionID: true,
	pb.AttrOCILayoutStoreID:   true,
	pb.AttrFullRemoteURL:      true,
	pb.AttrAuthHeaderSecret:   true,
	pb.AttrAuthTokenSecret:    true,
	pb.AttrKnownSSHHosts:      true,
	pb.AttrMountSSHSock:       true,
	pb.AttrGitAdvice:          true,
}

// sourceKey is the key of a source whose content is fixed by what the source says.
func sourceKey(o op, src *Source, step Step) (keyed, []Part) {
	h := NewHasher("zlayer.key.source.v1")
	kind := PartSource
	switch src.Scheme {
	case "local":
		return keyed{local: src}, nil
	case "docker-image", "oci-layout":
		_, dgst, ok := strings.Cut(src.Ref, "@")
		if !ok {
			return keyed{err: &NoKeyError{Step: step, Reason: "the image has no digest yet"}}, nil
		}
		kind = PartImage
		h.String("image")
		h.String(dgst)
	case "docker-image+blob":
		h.String(src.Scheme)
		h.String(src.Ref)
	case "git":
		if !Pinned(*src) {
			return keyed{err: &NoKeyError{Step: step, Reason: "the git reference is no commit, so it can move"}}, nil
		}
		h.String(src.Scheme)
		h.String(src.Ref)
	case "http", "https":
		if !Pinned(*src) {
			return keyed{err: &NoKeyError{Step: step, Reason: "the address has no checksum, so what it gives can change"}}, nil
		}
		h.String("http")
		h.String(src.Ref)
	default:
		return keyed{err: &NoKeyError{Step: step, Reason: "sources of the kind " + src.Scheme + " have no digest"}}, nil
	}
	attrs := make(map[string]string, len(src.Attrs))
	for name, v := range src.Attrs {
		if !unhashed[name] {
			attrs[name] = v
		}
	}
	h.Map(attrs)
	if o.Platform != nil {
		h.String(platforms.FormatAll(platforms.Normalize(o.Platform.Spec())))
	} else {
		h.String("")
	}
	d := h.Digest()
	return keyed{key: d}, []Part{{Kind: kind, Name: src.Ref, Value: d, Pos: step.Pos}}
}

// Pinned reports whether what a source gives is fixed by what it says.
func Pinned(src Source) bool {
	switch src.Scheme {
	case "docker-image", "oci-layout":
		return strings.Contains(src.Ref, "@")
	case "git":
		return gitPinned(&src)
	case "http", "https":
		return src.Attrs[pb.AttrHTTPChecksum] != ""
	case "docker-image+blob":
		return true
	}
	return false
}

// gitPinned tells whether a git source names a commit.
func gitPinned(src *Source) bool {
	if src.Attrs[pb.AttrGitChecksum] != "" {
		return len(src.Attrs[pb.AttrGitChecksum]) >= 40
	}
	_, ref, _ := strings.Cut(src.Ref, "#")
	ref, _, _ = strings.Cut(ref, ":")
	if len(ref) != 40 && len(ref) != 64 {
		return false
	}
	return strings.Trim(ref, "0123456789abcdef") == ""
}
