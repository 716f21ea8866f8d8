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

	"github.com/framegate/framegate/resolver"
)

// adminTokenEnv holds the token of an admin server: unlike a flag, other users of the machine do not see it.
const adminTokenEnv = "FRAMEGATE_ADMIN_TOKEN"

const maxAdminAnswer = 64 << 20

// adminFlags name the admin server of a running framegate.
type adminFlags struct {
	url   string
	token string
}

func (f *adminFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "admin", "", "ask the framegate whose admin server this is, such as http://127.0.0.1:8889")
	cmd.Flags().StringVar(&f.token, "admin-token", "", "token of the admin server, if it has one; better in the environment as "+adminTokenEnv)
}

// explain asks the framegate which route a call gets there, and waits for the answer for at most timeout.
func (f *adminFlags) explain(ctx context.Context, timeout time.Duration, req resolver.Request) (x explanation, err error) {
	if timeout <= 0 {
		return x, usageErrorf("--timeout: %s, want more than 0s", timeout)
	}
	base := f.url
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return x, usageErrorf("--admin: %q, want a URL such as http://127.0.0.1:8889", f.url)
	}
	u = u.JoinPath("/v1/explain")
	query := url.Values{"method": {req.Method}, "listener": {req.Listener}}
	if req.Authority != "" {
		query.Set("authority", req.Authority)
	}
	for name, values := range req.Header {
		for _, v := range values {
			query.Add("header", name+":"+v)
		}
	}
	u.RawQuery = query.Encode()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = f.get(ctx, u.String(), &x)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("admin server at %s: no answer within %s", f.url, timeout)
	}
	return x, err
}

// get decodes the answer of the admin server into v, or returns its error.
func (f *adminFlags) get(ctx context.Context, address string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	if token := cmp.Or(f.token, os.Getenv(adminTokenEnv)); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{DisableKeepAlives: true} // no proxy: the token is for nobody else
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the whole URL
		}
		return fmt.Errorf("admin server at %s cannot be asked (%w); is that framegate running?", f.url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return fmt.Errorf("admin server at %s: %w", f.url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("admin server at %s: %s", f.url, refusal(resp.Status, body))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("admin server at %s: its answer is not that of a framegate: %w", f.url, err)
	}
	return nil
}

// refusal says why an admin server refused a request.
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
