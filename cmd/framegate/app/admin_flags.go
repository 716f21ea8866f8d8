package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/plain"
)

// adminTokenEnv is the environment variable with the token of an admin server. Unlike a flag, it is not visible to other
// users of the machine.
const adminTokenEnv = "FRAMEGATE_ADMIN_TOKEN"

const maxAdminAnswer = 64 << 20

// adminFlags are the flags that say where the admin server of a running framegate is, and its token.
type adminFlags struct {
	url   string
	token string
}

// register adds the flags to cmd; url is the default of --admin.
func (f *adminFlags) register(cmd *cobra.Command, url string) {
	cmd.Flags().StringVar(&f.url, "admin", url, "ask the framegate whose admin server this is, such as http://127.0.0.1:8889")
	cmd.Flags().StringVar(&f.token, "admin-token", "", "token of the admin server, if it has one; better in the environment as "+adminTokenEnv)
}

// path returns the URL of a path of the admin server, or a usage error.
func (f *adminFlags) path(path string) (*url.URL, error) {
	base := f.url
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageErrorf("--admin: %q, want a URL such as http://127.0.0.1:8889", plain.URL(f.url))
	}
	return u.JoinPath(path), nil
}

// get asks the admin server and decodes its answer, in JSON, into v.
func (f *adminFlags) get(ctx context.Context, address string, v any) error {
	body, err := f.open(ctx, address)
	if err != nil {
		return err
	}
	defer body.Close()
	doc, err := io.ReadAll(io.LimitReader(body, maxAdminAnswer))
	if err != nil {
		return fmt.Errorf("admin server at %s: %w", plain.URL(f.url), err)
	}
	if err := json.Unmarshal(doc, v); err != nil {
		return fmt.Errorf("admin server at %s: its answer is not that of a framegate: %w", plain.URL(f.url), err)
	}
	return nil
}

// getWithin is get with a bound on the time until the answer.
func (f *adminFlags) getWithin(ctx context.Context, timeout time.Duration, address string, v any) error {
	if timeout <= 0 {
		return usageErrorf("--timeout: %s, want more than 0s", timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := f.get(ctx, address, v)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("admin server at %s: no answer within %s", plain.URL(f.url), timeout)
	}
	return err
}

// open sends a GET request to the admin server and returns the body of the answer, which the caller closes. An answer other
// than 200 is an error with the message of the server.
func (f *adminFlags) open(ctx context.Context, address string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if token := cmp.Or(f.token, os.Getenv(adminTokenEnv)); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{DisableKeepAlives: true} // and no HTTP proxy, which would see the token
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the whole URL
		}
		return nil, fmt.Errorf("admin server at %s cannot be asked (%w); is that framegate running?", plain.URL(f.url), err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return nil, fmt.Errorf("admin server at %s: %w", plain.URL(f.url), err)
	}
	return nil, fmt.Errorf("admin server at %s: %s", plain.URL(f.url), refusal(resp.Status, body))
}

// refusal returns the message and reason of an error answer, or the HTTP status if the body has none.
func refusal(status string, body []byte) string {
	var answer struct {
		Error struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Error.Reason == "" {
		return status
	}
	return fmt.Sprintf("%s (%s)", answer.Error.Message, answer.Error.Reason)
}
