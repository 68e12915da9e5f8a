package engine

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/frontend/wasm"
	"github.com/zlayer-dev/zlayer/store"
)

// PullWasm fetches an artifact from its registry into the store, under its own name and with the
// attestations that refer to it, and gives its binary and digest.
func (e *Engine) PullWasm(ctx context.Context, ref string) ([]byte, digest.Digest, error) {
	normal, err := store.NormalName(ref)
	if err != nil {
		return nil, "", &InputError{Err: err}
	}
	s, err := e.Store()
	if err != nil {
		return nil, "", err
	}
	r, opts, err := e.remote(ctx, normal)
	if err != nil {
		return nil, "", err
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil, "", err
	}
	defer lease.Close()
	p := &wasmPull{ctx: ctx, store: s, repo: r.Context(), opts: opts}
	data, desc, err := p.artifact(r)
	if err != nil {
		return nil, "", fmt.Errorf("pulling %s: %w", ref, err)
	}
	if err := s.Import(ctx, desc, normal); err != nil {
		return nil, "", err
	}
	if err := p.attestations(desc); err != nil {
		return nil, "", fmt.Errorf("pulling what refers to %s: %w", ref, err)
	}
	return data, desc.Digest, nil
}

// wasmPull is an artifact on its way from a registry into the store.
type wasmPull struct {
	ctx   context.Context
	store *store.Store
	repo  name.Repository
	opts  []remote.Option
}

// artifact puts the blobs of an artifact into the store, and gives its binary.
func (p *wasmPull) artifact(r name.Reference) ([]byte, ocispecs.Descriptor, error) {
	var none ocispecs.Descriptor
	got, err := remote.Get(r, p.opts...)
	if err != nil {
		return nil, none, err
	}
	if got.MediaType.IsIndex() {
		return nil, none, inputErrorf("it is an index of images, and no artifact of WebAssembly")
	}
	img, err := got.Image()
	if err != nil {
		return nil, none, err
	}
	m, layer, err := wasmLayer(r.String(), got.Manifest)
	if err != nil {
		return nil, none, err
	}
	blobs, err := p.blobs(img, m)
	if err != nil {
		return nil, none, err
	}
	for _, b := range blobs {
		if b.desc.Digest == layer.Digest {
			return b.data, descriptorOfManifest(m, got.Manifest), p.put(m, got.Manifest, blobs)
		}
	}
	return nil, none, fmt.Errorf("the layer %s is missing", layer.Digest)
}

// blobs fetches the config and the layers.
func (p *wasmPull) blobs(img v1.Image, m ocispecs.Manifest) ([]wasmBlob, error) {
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	blobs := []wasmBlob{{m.Config, config}}
	for _, l := range m.Layers {
		data, err := readLayer(img, l)
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, wasmBlob{l, data})
	}
	return blobs, nil
}

// put writes blobs and the manifest that names them.
func (p *wasmPull) put(m ocispecs.Manifest, raw []byte, blobs []wasmBlob) error {
	for _, b := range append(blobs, wasmBlob{descriptorOfManifest(m, raw), raw}) {
		if err := content.WriteBlob(p.ctx, p.store.Content(), "wasm-"+b.desc.Digest.String(), bytes.NewReader(b.data), b.desc); err != nil {
			return fmt.Errorf("storing it: %w", err)
		}
	}
	return nil
}

func descriptorOfManifest(m ocispecs.Manifest, raw []byte) ocispecs.Descriptor {
	return ocispecs.Descriptor{
		MediaType: cmp.Or(m.MediaType, ocispecs.MediaTypeImageManifest), ArtifactType: m.ArtifactType,
		Digest: digest.FromBytes(raw), Size: int64(len(raw)),
	}
}

// maxReferrers bounds how many attestations are pulled with an artifact.
const maxReferrers = 256

// attestations fetches the in-toto statements that refer to an artifact; signatures and the like of
// other tools stay where they are.
func (p *wasmPull) attestations(subject ocispecs.Descriptor) error {
	index, err := remote.Referrers(p.repo.Digest(subject.Digest.String()), p.opts...)
	if err != nil {
		return err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return err
	}
	if len(list.Manifests) > maxReferrers {
		return fmt.Errorf("there are %d, and more than %d are not taken", len(list.Manifests), maxReferrers)
	}
	for _, d := range list.Manifests {
		if !d.MediaType.IsImage() {
			continue
		}
		got, err := remote.Get(p.repo.Digest(d.Digest.String()), p.opts...)
		if err != nil {
			return err
		}
		if err := p.attestation(subject, got); err != nil {
			return err
		}
	}
	return nil
}

func (p *wasmPull) attestation(subject ocispecs.Descriptor, got *remote.Descriptor) error {
	var m ocispecs.Manifest
	if err := json.Unmarshal(got.Manifest, &m); err != nil {
		return fmt.Errorf("reading the manifest %s: %w", got.Digest, err)
	}
	if m.ArtifactType != wasm.StatementMediaType || m.Subject == nil || m.Subject.Digest != subject.Digest {
		return nil
	}
	img, err := got.Image()
	if err != nil {
		return err
	}
	blobs, err := p.blobs(img, m)
	if err != nil {
		return err
	}
	if err := p.put(m, got.Manifest, blobs); err != nil {
		return err
	}
	_, err = p.store.Attach(p.ctx, descriptorOfManifest(m, got.Manifest))
	return err
}

// remote says where an image is and how its registry is asked, as the configuration has it.
func (e *Engine) remote(ctx context.Context, ref string) (name.Reference, []remote.Option, error) {
	o, err := e.cfg.pushOptions(ref)
	if err != nil {
		return nil, nil, err
	}
	var opts []name.Option
	if o.Insecure {
		opts = append(opts, name.Insecure)
	}
	r, err := name.ParseReference(ref, opts...)
	if err != nil {
		return nil, nil, &InputError{Err: err}
	}
	transport := o.Transport
	if transport == nil {
		transport = remote.DefaultTransport
	}
	if t, ok := transport.(*http.Transport); ok && o.Insecure {
		t = t.Clone()
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{}
		}
		t.TLSClientConfig.InsecureSkipVerify = true // what the configuration asks for
		transport = t
	}
	return r, []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithTransport(transport), remote.WithUserAgent(product),
	}, nil
}
