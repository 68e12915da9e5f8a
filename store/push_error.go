package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// explain puts what the user can do in front of what went wrong on the wire.
func explain(err error, target name.Tag) error {
	host, repo := target.RegistryStr(), target.RepositoryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var terr *transport.Error
	var blob *BlobError
	switch {
	case errors.Is(err, context.Canceled), errors.As(err, &blob):
		return err
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("registry %s speaks plain HTTP: allow that with --insecure: %w", host, err)
	case errors.As(err, &cert), errors.As(err, &authority):
		return fmt.Errorf("the certificate of registry %s is not trusted: install its CA, or allow it with --insecure: %w", host, err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("there is no host named %s: check the registry in the image's name: %w", host, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no registry listens at %s: %w", host, err)
	case errors.As(err, &terr):
		return explainStatus(err, terr.StatusCode, host, repo)
	}
	return err
}

func explainStatus(err error, status int, host, repo string) error {
	switch status {
	case http.StatusUnauthorized:
		return fmt.Errorf("registry %s does not accept the credentials, or wants some: log in with `docker login %s`: %w", host, host, err)
	case http.StatusForbidden:
		return fmt.Errorf("registry %s does not allow pushing to %s: check that the repository exists and that you may write to it: %w", host, repo, err)
	case http.StatusNotFound:
		return fmt.Errorf("registry %s does not know repository %s: create it first, or check the name: %w", host, repo, err)
	case http.StatusTooManyRequests:
		return fmt.Errorf("registry %s limits the rate of requests: wait, or log in with `docker login %s`: %w", host, host, err)
	case http.StatusRequestEntityTooLarge:
		return fmt.Errorf("registry %s, or a proxy before it, does not take blobs this large: %w", host, err)
	}
	if status >= 500 {
		return fmt.Errorf("registry %s is in trouble: try again later: %w", host, err)
	}
	return err
}
