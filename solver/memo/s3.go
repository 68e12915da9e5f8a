package memo

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	digest "github.com/opencontainers/go-digest"
)

// S3 is a Store in a bucket of S3 or of a service that speaks its protocol, one
// object a record: <prefix>v1/<first two digits of the key>/<key>. A Get is one
// request of the first 64 KiB, which is more than a record without parts takes.
//
// It needs s3:GetObject, s3:PutObject to write, and s3:ListBucket: without that S3
// does not say whether an object is absent or forbidden. It must not be copied.
type S3 struct {
	// Config says where; Bucket must be given.
	Config S3Config
	// HTTP makes the requests to the bucket; nil is the SDK's own.
	HTTP aws.HTTPClient
	// Now is the clock of Prune; nil is time.Now.
	Now func() time.Time

	mu  sync.Mutex
	api *s3.Client
}

var (
	_ Store       = (*S3)(nil)
	_ PartsReader = (*S3)(nil)
	_ Lister      = (*S3)(nil)
	_ Deleter     = (*S3)(nil)
	_ Pruner      = (*S3)(nil)
)

// s3Head is how much of an object a Get asks for at first.
const s3Head = 64 << 10

// Get implements [Store].
func (s *S3) Get(ctx context.Context, key digest.Digest) (*Record, error) {
	if err := ready(ctx, key); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	data, total, err := s.read(ctx, key, s3Head)
	if err != nil {
		return nil, err
	}
	if f, n, ferr := decodeFrame(bufio.NewReaderSize(bytes.NewReader(data), maxLine)); ferr == nil && n+f.json > int64(len(data)) && total > int64(len(data)) {
		if data, total, err = s.read(ctx, key, n+f.json); err != nil {
			return nil, err
		}
	}
	r, _, err := decodeHead(bufio.NewReaderSize(bytes.NewReader(data), maxLine), total)
	return believe(key, r, err)
}

// ReadParts implements [PartsReader].
func (s *S3) ReadParts(ctx context.Context, r *Record) ([]byte, error) {
	if err := ready(ctx, r.Key); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	data, _, err := s.read(ctx, r.Key, MaxTotal)
	if errors.Is(err, ErrNotFound) {
		return nil, lostParts(r)
	}
	if err != nil {
		return nil, err
	}
	have, err := Decode(data)
	if err != nil || have.Parts == nil || have.PartsDigest != r.PartsDigest {
		return nil, lostParts(r)
	}
	return have.Parts, nil
}

// read gives the first bytes of the key's object, at most n, and its whole length.
func (s *S3) read(ctx context.Context, key digest.Digest, n int64) ([]byte, int64, error) {
	api, err := s.client(ctx)
	if err != nil {
		return nil, 0, err
	}
	out, err := api.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.Config.Bucket,
		Key:    aws.String(s.object(key)),
		Range:  aws.String(fmt.Sprintf("bytes=0-%d", n-1)),
	})
	if noObject(err) {
		return nil, 0, absent(key)
	}
	if err != nil {
		return nil, 0, s.trouble("reading", err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(io.LimitReader(out.Body, n))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, 0, s.trouble("reading", err)
	}
	total := aws.ToInt64(out.ContentLength)
	if _, whole, ok := strings.Cut(aws.ToString(out.ContentRange), "/"); ok {
		if v, err := strconv.ParseInt(whole, 10, 64); err == nil {
			total = v
		}
	}
	return data, total, nil
}

// Put implements [Store].
func (s *S3) Put(ctx context.Context, r *Record) error {
	if err := ready(ctx, r.Key); err != nil {
		return err
	}
	data, err := Encode(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	api, err := s.client(ctx)
	if err != nil {
		return err
	}
	_, err = api.PutObject(ctx, &s3.PutObjectInput{
		Bucket:        &s.Config.Bucket,
		Key:           aws.String(s.object(r.Key)),
		Body:          bytes.NewReader(data),
		ContentLength: aws.Int64(int64(len(data))),
		ContentType:   aws.String(recordType),
	})
	if err != nil {
		return s.trouble("writing", err)
	}
	return nil
}

// Delete implements [Deleter].
func (s *S3) Delete(ctx context.Context, key digest.Digest) error {
	if err := ready(ctx, key); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	api, err := s.client(ctx)
	if err != nil {
		return err
	}
	// Deleting says nothing about whether there was anything.
	_, err = api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.Config.Bucket, Key: aws.String(s.object(key))})
	if err == nil {
		err = s.remove(ctx, api, s.object(key))
	}
	if noObject(err) {
		return absent(key)
	}
	if err != nil {
		return s.trouble("removing from", err)
	}
	return nil
}

func (s *S3) remove(ctx context.Context, api *s3.Client, object string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	_, err := api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Config.Bucket, Key: &object})
	return err
}

// List implements [Lister].
func (s *S3) List(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		items, err := s.items(ctx)
		for _, it := range items {
			r, err := s.Get(ctx, digest.NewDigestFromEncoded(digest.SHA256, path.Base(it.name)))
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if !yield(Entry{Record: r, Size: it.size, Used: it.used}, err) || err != nil {
				return
			}
		}
		if err != nil {
			yield(Entry{}, err)
		}
	}
}

// Prune implements [Pruner].
func (s *S3) Prune(ctx context.Context, l Limits) (Pruned, error) {
	items, err := s.items(ctx)
	if err != nil {
		return Pruned{}, err
	}
	api, err := s.client(ctx)
	if err != nil {
		return Pruned{}, err
	}
	return prune(ctx, items, l, now(s.Now), func(it item) (bool, error) {
		if err := s.remove(ctx, api, it.name); err != nil {
			return false, s.trouble("removing from", err)
		}
		return true, nil
	})
}

// items lists the objects that are records by their names.
func (s *S3) items(ctx context.Context) ([]item, error) {
	api, err := s.client(ctx)
	if err != nil {
		return nil, err
	}
	pages := s3.NewListObjectsV2Paginator(api, &s3.ListObjectsV2Input{Bucket: &s.Config.Bucket, Prefix: aws.String(s.Config.Prefix + "v1/")})
	var items []item
	for pages.HasMorePages() {
		page, err := s.page(ctx, pages)
		if err != nil {
			return items, s.trouble("listing", err)
		}
		for _, o := range page.Contents {
			object := aws.ToString(o.Key)
			key := digest.NewDigestFromEncoded(digest.SHA256, path.Base(object))
			if checkKey(key) == nil && object == s.object(key) {
				items = append(items, item{name: object, size: aws.ToInt64(o.Size), used: aws.ToTime(o.LastModified)})
			}
		}
	}
	return items, nil
}

func (s *S3) page(ctx context.Context, pages *s3.ListObjectsV2Paginator) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout()*slower)
	defer cancel()
	return pages.NextPage(ctx)
}

// client gives the client. Credentials and region are looked for when the first
// request is made, not when a command starts that may make none.
func (s *S3) client(ctx context.Context) (*s3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.api != nil {
		return s.api, nil
	}
	c := &s.Config
	var load []func(*awsconfig.LoadOptions) error
	if c.Anonymous {
		load = append(load, awsconfig.WithCredentialsProvider(aws.AnonymousCredentials{}))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, s.trouble("reaching", err)
	}
	cfg.Region = cmp.Or(c.Region, cfg.Region)
	if cfg.Region == "" && c.Endpoint == "" {
		return nil, s.trouble("reaching", errors.New("the region is missing: say region=NAME or set AWS_REGION"))
	}
	s.api = s3.NewFromConfig(cfg, func(o *s3.Options) {
		// Others want a region for the signature only, and this one is taken everywhere.
		o.Region = cmp.Or(cfg.Region, "us-east-1")
		o.UsePathStyle = c.PathStyle
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = 2, 100*time.Millisecond
		})
		if s.HTTP != nil {
			o.HTTPClient = s.HTTP
		}
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
		// Records verify themselves, and services other than AWS's know no trailing
		// checksums.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return s.api, nil
}

func (s *S3) timeout() time.Duration {
	if s.Config.Timeout > 0 {
		return s.Config.Timeout
	}
	return DefaultTimeout
}

func (s *S3) object(key digest.Digest) string {
	return s.Config.Prefix + "v1/" + key.Encoded()[:2] + "/" + key.Encoded()
}

// trouble explains an error of the service.
func (s *S3) trouble(doing string, err error) error {
	hint := ""
	var resp *smithyhttp.ResponseError
	switch {
	case errors.As(err, &resp) && resp.HTTPStatusCode() == http.StatusForbidden:
		hint = " (without the right s3:ListBucket, absent records are forbidden ones)"
	case errors.Is(err, context.DeadlineExceeded):
		hint = " (it did not answer in time)"
	}
	return fmt.Errorf("%s memo in s3://%s/%s%s: %w", doing, s.Config.Bucket, s.Config.Prefix, hint, err)
}

// noObject tells whether err says that the object is absent, or has no first byte.
// That the bucket is absent is another matter.
func noObject(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "NoSuchKey", "NotFound", "InvalidRange":
		return true
	}
	return false
}
