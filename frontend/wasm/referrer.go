package wasm

import (
	"encoding/json"
	"errors"
	"fmt"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// StatementMediaType is the type of in-toto statements, and of the artifacts that hold one.
	StatementMediaType = "application/vnd.in-toto+json"
	// predicateAnnotation says what a statement is about; registries tell it in lists of referrers.
	predicateAnnotation = "in-toto.io/predicate-type"
)

// statement is an in-toto statement.
type statement struct {
	Type          string             `json:"_type"`
	PredicateType string             `json:"predicateType"`
	Subject       []statementSubject `json:"subject"`
	Predicate     json.RawMessage    `json:"predicate"`
}

type statementSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Attest makes an artifact of an in-toto statement about a: a manifest with that of a as its
// subject. The statement becomes one about the binary, called file, and about the manifest, whatever
// it was about before. Of provenance it loses which run of the builder it was, when, and names that
// only that run had: equal builds give equal bytes.
func (a *Artifact) Attest(file string, text []byte) (*Artifact, error) {
	s, err := readStatement(text)
	if err != nil {
		return nil, err
	}
	layer := a.Content.Layers[0]
	s.Subject = []statementSubject{subjectOf(file, layer.Digest)}
	if title := layer.Annotations[ocispecs.AnnotationTitle]; title != "" {
		s.Subject[0].Name = title
	}
	name := a.Content.Annotations[ocispecs.AnnotationTitle]
	if name == "" {
		name = s.Subject[0].Name
	}
	s.Subject = append(s.Subject, subjectOf(name, a.Descriptor.Digest))
	return s.pack(a.Descriptor)
}

// Statement gives an in-toto statement the binary of a file as its only subject, with what [Artifact.Attest]
// says of provenance.
func Statement(file string, binary digest.Digest, text []byte) ([]byte, error) {
	s, err := readStatement(text)
	if err != nil {
		return nil, err
	}
	s.Subject = []statementSubject{subjectOf(file, binary)}
	return json.Marshal(s)
}

// PredicateType is the kind of the statement that the artifact holds, "" if it holds none.
func (a *Artifact) PredicateType() string { return a.Content.Annotations[predicateAnnotation] }

func subjectOf(name string, d digest.Digest) statementSubject {
	return statementSubject{Name: name, Digest: map[string]string{d.Algorithm().String(): d.Encoded()}}
}

func readStatement(text []byte) (*statement, error) {
	var s statement
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("reading an attestation: %w", err)
	}
	if s.PredicateType == "" || len(s.Predicate) == 0 {
		return nil, errors.New("reading an attestation: it is no in-toto statement with a predicate")
	}
	var err error
	if s.Predicate, err = settle(s.PredicateType, s.Predicate); err != nil {
		return nil, fmt.Errorf("reading an attestation: %w", err)
	}
	return &s, nil
}

// pack makes an artifact that refers to the subject.
func (s *statement) pack(subject ocispecs.Descriptor) (*Artifact, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding an attestation: %w", err)
	}
	about := map[string]string{predicateAnnotation: s.PredicateType}
	empty := ocispecs.DescriptorEmptyJSON
	a := &Artifact{Layer: text, Config: empty.Data}
	empty.Data = nil
	a.Content = ocispecs.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispecs.MediaTypeImageManifest,
		ArtifactType: StatementMediaType,
		Config:       empty,
		Layers:       []ocispecs.Descriptor{{MediaType: StatementMediaType, Digest: digest.FromBytes(text), Size: int64(len(text)), Annotations: about}},
		Subject:      &ocispecs.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations:  about,
	}
	if a.Manifest, err = json.MarshalIndent(a.Content, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding the manifest of an attestation: %w", err)
	}
	a.Descriptor = ocispecs.Descriptor{
		MediaType: ocispecs.MediaTypeImageManifest, Digest: digest.FromBytes(a.Manifest), Size: int64(len(a.Manifest)),
		ArtifactType: StatementMediaType, Annotations: about,
	}
	return a, nil
}
