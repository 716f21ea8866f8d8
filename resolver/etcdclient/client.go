package etcdclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/strict"
)

// Config says how to reach etcd.
type Config struct {
	Endpoints []string // host:port, http://host:port or https://host:port; at least one
	Username  string   // empty for an etcd without users
	Password  string   // of Username

	CAFile            string // certificates to trust; empty means the system's
	CertFile, KeyFile string // the client's own certificate; both or none, read again for each connection

	// Dial makes connections to an etcd in this process; nil means TCP connections to the endpoints.
	Dial func(context.Context) (net.Conn, error)

	// DialTimeout bounds the request for a token, which New makes with a Username; 0 means 5 s. Without one New does not block.
	DialTimeout time.Duration

	Silent func(address string) // is called for each connection that was closed because its peer did not answer; may be nil
}

// Settings of the client's connections. etcd allows pings every 5 s (embed.DefaultGRPCKeepAliveMinTime).
const (
	defaultDialTimeout = 5 * time.Second
	keepaliveTime      = 10 * time.Second
	keepaliveTimeout   = 5 * time.Second
	minConnectTimeout  = 5 * time.Second
	minReconnectDelay  = 100 * time.Millisecond
	maxReconnectDelay  = 2 * time.Second // with gRPC's default of 2 minutes, routes would stay old too long after an outage
)

// RequestTimeout bounds requests for which there is no other bound.
const RequestTimeout = 5 * time.Second

// New returns a client of etcd, which the caller closes. The error names every mistake of cfg. It does not
// wait for a connection, except with a Username: then it asks etcd for a token, and fails if etcd does not answer within
// DialTimeout or refuses.
func New(cfg Config) (*clientv3.Client, error) {
	conf, err := cfg.ClientConfig()
	if err != nil {
		return nil, err
	}
	cli, err := clientv3.New(conf)
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return cli, nil
}

// ClientConfig returns the configuration of a client of etcd. It reads the certificates; the error names every mistake.
func (c Config) ClientConfig() (clientv3.Config, error) {
	if c.DialTimeout <= 0 {
		c.DialTimeout = defaultDialTimeout
	}
	if err := c.Validate(); err != nil {
		return clientv3.Config{}, errors.Join(strict.Within("etcd ", err)...)
	}
	tlsConfig, err := c.tlsConfig()
	if err != nil {
		return clientv3.Config{}, err
	}
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = credentials.NewTLS(tlsConfig)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(aliveCredentials{creds, aliveSilence, c.Silent}), // in place of the client's own
		grpc.WithChainStreamInterceptor(placeWatch),
		grpc.WithChainUnaryInterceptor(noteSent),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minReconnectDelay, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnectDelay},
			MinConnectTimeout: minConnectTimeout,
		}),
	}
	if c.Dial != nil {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.Dial(ctx) }))
	}
	return clientv3.Config{
		Endpoints:            c.Endpoints,
		Username:             c.Username,
		Password:             c.Password,
		TLS:                  tlsConfig,
		DialTimeout:          c.DialTimeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		Logger:               zap.NewNop(), // errors are returned
		DialOptions:          options,
	}, nil
}

// Reach returns nil if some endpoint of cli takes calls, and else why none does: a refused connection, a certificate, or no
// answer within 10 s or before ctx ended. Unlike a request, which waits for a connection, it fails as soon as connections
// fail, and it asks another member if one hangs.
func Reach(ctx context.Context, cli *clientv3.Client) error {
	return ReachWithin(ctx, cli, maxReachTime)
}

const maxReachTime = 10 * time.Second

// ReachWithin is Reach with the time within instead of 10 s.
func ReachWithin(ctx context.Context, cli *clientv3.Client, within time.Duration) error {
	q := Question{Within: within, Patience: NextMember, Max: MaxAsked}
	_, err := AskMembers(ctx, q, func(ctx context.Context) (struct{}, error) { return struct{}{}, ReachOne(ctx, cli) })
	return err
}

// ReachOne is Reach for the one endpoint whose turn it is.
func ReachOne(ctx context.Context, cli *clientv3.Client) error {
	_, err := grpc_health_v1.NewHealthClient(cli.ActiveConnection()).
		Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(false))
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return errors.New(plainReason(s.Message()))
	}
	return nil // any other status shows that the endpoint answers
}

// clientCloseTimeout bounds how long Close waits for the client to end its watches.
const clientCloseTimeout = 3 * time.Second

// Close closes a client whose calls have ended. It works around a bug of clientv3 v3.7.3: if etcd refuses a new watch while
// its stream breaks, as happens when etcd stops, a goroutine of watchGRPCStream.addSubstream never ends, and the client's
// own Close would wait for it without end.
func Close(cli *clientv3.Client) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = cli.Close() // returns the error of its own context, which it cancels
	}()
	select {
	case <-closed:
	case <-time.After(clientCloseTimeout):
		_ = cli.ActiveConnection().Close()
	}
}

// UnansweredCause returns why etcd did not answer a request that failed with err, which may say only that time was up. It
// asks etcd for that, for no longer than within. It returns err if that is the answer of etcd, or if etcd can be reached
// now.
func UnansweredCause(ctx context.Context, cli *clientv3.Client, err error, within time.Duration) error {
	if !IsUnavailable(err) {
		return err
	}
	if reason := ReachWithin(ctx, cli, within); reason != nil {
		return reason
	}
	return err
}

// plainReason returns the reason of a failed connection without the text that gRPC wraps it in, for people.
func plainReason(msg string) string {
	if _, inner, ok := strings.Cut(msg, `desc = "`); ok {
		msg = strings.TrimSuffix(inner, `"`)
	}
	return strings.TrimPrefix(msg, "transport: ")
}

// IsUnavailable reports whether a request failed because etcd could not be reached, gave no answer in time or could not
// serve it, for lack of a leader for instance. The same request may succeed later.
func IsUnavailable(err error) bool {
	var answer rpctypes.EtcdError
	switch {
	case errors.As(err, &answer):
		return answer.Code() == codes.Unavailable
	case errors.Is(err, context.DeadlineExceeded):
		return true
	}
	s, ok := status.FromError(err)
	return ok && (s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded)
}

// IsRefused reports whether err is etcd's answer that it does not do what was asked. After any other error of a write, also
// after its context was canceled, etcd may have done it.
func IsRefused(err error) bool {
	var answer rpctypes.EtcdError
	return errors.As(err, &answer) && answer.Code() != codes.Unavailable
}

// Validate returns every mistake of the configuration, each beginning with its key below etcd. It does not read files.
func (c Config) Validate() error {
	var errs []error
	if len(c.Endpoints) == 0 {
		errs = append(errs, errors.New("endpoints: empty, want at least one host:port"))
	}
	scheme := ""
	for i, e := range c.Endpoints {
		if !validEndpoint(e) {
			errs = append(errs, fmt.Errorf("endpoints: %q, want host:port, http://host:port or https://host:port", plain.URL(e)))
		}
		s := schemeOf(e)
		if i == 0 {
			scheme = s
		}
		if s != scheme { // etcd's client uses TLS for all endpoints if it does for the first
			errs = append(errs, fmt.Errorf("endpoints: %q beside %q, want all with https:// or all without", plain.URL(e), plain.URL(c.Endpoints[0])))
		}
	}
	if scheme == "http" && (c.CAFile != "" || c.CertFile != "") {
		errs = append(errs, fmt.Errorf("endpoints: %q with TLS files, want https://", plain.URL(c.Endpoints[0])))
	}
	if (c.Username == "") != (c.Password == "") {
		errs = append(errs, fmt.Errorf("username: %q %s a password, want both or none", c.Username, withOrWithout(c.Password)))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, fmt.Errorf("cert_file: %q with key %q, want both files or none", c.CertFile, c.KeyFile))
	}
	return errors.Join(errs...)
}

func withOrWithout(s string) string {
	if s == "" {
		return "without"
	}
	return "with"
}

func schemeOf(endpoint string) string {
	scheme, _, ok := strings.Cut(endpoint, "://")
	if !ok {
		return ""
	}
	return scheme
}

func validEndpoint(endpoint string) bool {
	scheme := schemeOf(endpoint)
	hostPort := endpoint
	if scheme == "http" || scheme == "https" {
		hostPort = strings.TrimPrefix(endpoint, scheme+"://")
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil || host == "" || strings.ContainsAny(host, " \t\r\n/@") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// tlsConfig returns the TLS configuration, nil for connections in clear text.
func (c Config) tlsConfig() (*tls.Config, error) {
	if schemeOf(c.Endpoints[0]) != "https" && c.CAFile == "" && c.CertFile == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	var errs []error
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		conf.RootCAs = x509.NewCertPool()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("etcd CA file: %w", err))
		case !conf.RootCAs.AppendCertsFromPEM(pem):
			errs = append(errs, fmt.Errorf("etcd CA file: %s, want certificates in PEM", c.CAFile))
		}
	}
	if c.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("etcd certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
			}
			return &cert, nil
		}
		if _, err := load(); err != nil {
			errs = append(errs, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return conf, errors.Join(errs...)
}
