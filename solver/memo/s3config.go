package memo

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

// S3Config says which bucket an [S3] keeps records in, and how.
type S3Config struct {
	// Bucket must be given. Region may come from AWS's environment and files.
	Bucket string
	Region string
	// Endpoint is the URL of a service that is not AWS's.
	Endpoint string
	// Prefix comes before every object's name, as it is.
	Prefix string
	// PathStyle puts the bucket into the path instead of the host's name.
	PathStyle bool
	// Anonymous sends no credentials; without it they come from AWS's chain:
	// environment, files, and the machine's role.
	Anonymous bool
	// Timeout bounds each Get; writing and parts may take six times as long. 0 is
	// DefaultTimeout.
	Timeout time.Duration
}

// set applies one option; the caller knows that it is one.
func (c *S3Config) set(key, value string, given bool) (err error) {
	switch key {
	case "use_path_style":
		c.PathStyle, err = parseSwitch(key, value, given)
		return err
	case "anonymous":
		c.Anonymous, err = parseSwitch(key, value, given)
		return err
	}
	if value == "" {
		return fmt.Errorf("%s has no value", key)
	}
	switch key {
	case "bucket":
		c.Bucket = value
	case "region":
		c.Region = value
	case "prefix":
		c.Prefix = value
	case "endpoint_url":
		c.Endpoint = value
		u, err := url.Parse(value)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("endpoint_url is no URL like https://HOST")
		}
		if u.User != nil {
			return errors.New("endpoint_url has credentials in it: use AWS's environment variables or files")
		}
	}
	return nil
}

func (c *S3Config) check() error {
	if c.Bucket == "" {
		return errors.New("the bucket is missing: s3=bucket=NAME")
	}
	return nil
}
