package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/strict"
)

// etcdPasswordEnv is the environment variable with the password of --etcd-user. Unlike a flag, it is not visible to other
// users of the machine.
const etcdPasswordEnv = "FRAMEGATE_ETCD_PASSWORD"

// etcdConnection has the flags that say how to reach etcd.
type etcdConnection struct {
	client  etcdclient.Config
	timeout time.Duration
}

func (f *etcdConnection) register(cmd *cobra.Command) {
	f.registerClient(cmd)
	cmd.Flags().DurationVar(&f.timeout, "timeout", defaultEtcdTimeout, "time for the whole command")
}

const defaultEtcdTimeout = 5 * time.Second

// registerClient is register without --timeout, for a command that runs until it is stopped.
func (f *etcdConnection) registerClient(cmd *cobra.Command) {
	f.timeout = defaultEtcdTimeout
	flags := cmd.Flags()
	flags.StringSliceVar(&f.client.Endpoints, "etcd", []string{etcdserver.DefaultAddress}, "etcd endpoints, separated by commas: host:port, or https://host:port for TLS")
	flags.StringVar(&f.client.Username, "etcd-user", "", "user of etcd, if it has users")
	flags.StringVar(&f.client.Password, "etcd-password", "", "password of that user; better in the environment as "+etcdPasswordEnv)
	flags.StringVar(&f.client.CAFile, "etcd-cacert", "", "PEM file of certificates to trust, instead of the system's")
	flags.StringVar(&f.client.CertFile, "etcd-cert", "", "PEM file of the client's certificate")
	flags.StringVar(&f.client.KeyFile, "etcd-key", "", "PEM file of the key of --etcd-cert")
}

// complete takes the password from the environment and reports mistakes in the flags.
func (f *etcdConnection) complete() error {
	if f.client.Username != "" && f.client.Password == "" {
		f.client.Password = os.Getenv(etcdPasswordEnv)
	}
	if f.timeout <= 0 {
		return usageErrorf("--timeout: %s, want more than 0s", f.timeout)
	}
	if err := f.client.Validate(); err != nil {
		return usageErrorf("%v", errors.Join(strict.Within("etcd ", err)...))
	}
	f.client.DialTimeout = f.timeout
	return nil
}

func (f *etcdConnection) connection() *etcdConnection { return f }

func (f *etcdConnection) endpoints() string { return strings.Join(f.client.Endpoints, ",") }

// etcdFlags are the flags of a command that works on framegate's keys in etcd: routes and schemas.
type etcdFlags struct {
	etcdConnection
	prefix string
}

func (f *etcdFlags) register(cmd *cobra.Command) {
	f.etcdConnection.register(cmd)
	cmd.Flags().StringVar(&f.prefix, "prefix", etcdstore.DefaultPrefix, "what framegate's keys in etcd start with")
}

func (f *etcdFlags) complete() error {
	var prefix error
	if err := etcdstore.ValidatePrefix(f.prefix); err != nil {
		prefix = usageErrorf("--prefix: %v", err)
	}
	return errors.Join(prefix, f.etcdConnection.complete())
}

func (f *etcdFlags) notFound(route string) error {
	return fmt.Errorf("route %s: not found in etcd at %s", route, f.endpoints())
}

// withRoutes is withEtcd for commands on the routes in etcd.
func withRoutes(cmd *cobra.Command, f *etcdFlags, out *outputFlag, do func(context.Context, *etcdstore.Routes) error) error {
	return withEtcd(cmd, f, out, func(ctx context.Context, cli *clientv3.Client) error {
		return do(ctx, etcdstore.NewRoutes(cli, f.prefix, structmode.CompileRoute))
	})
}

// connectionFlags are the flags of a command that have an etcdConnection among them.
type connectionFlags interface {
	complete() error
	connection() *etcdConnection
}

// withEtcd checks the flags, waits until etcd answers and calls do with a client, which it closes. All of it has the time of
// --timeout. Errors of etcd are explained to the user: whether anything was changed, and what to do.
func withEtcd(cmd *cobra.Command, flags connectionFlags, out *outputFlag, do func(context.Context, *clientv3.Client) error) error {
	if err := errors.Join(out.validate(), flags.complete()); err != nil {
		return err
	}
	f := flags.connection()
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	cli, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer cli.Close()
	err = do(ctx, cli)
	var unknown *etcdclient.UnknownOutcomeError
	switch {
	case errors.As(err, &unknown):
		return f.unknown(ctx, unknown)
	case etcdclient.IsUnavailable(err):
		return f.unserved(ctx, cli, err)
	}
	return err
}

// connect waits until etcd answers and returns a client, which the caller closes. It tries without a user first, because a
// client with a user and password cannot be made without an answer of etcd.
func (f *etcdConnection) connect(ctx context.Context) (*clientv3.Client, error) {
	anonymous := f.client
	anonymous.Username, anonymous.Password = "", ""
	cli, err := etcdclient.New(anonymous)
	if err != nil {
		return nil, err
	}
	if err := reach(ctx, cli); err != nil {
		_ = cli.Close()
		return nil, f.unavailable(ctx, err)
	}
	if f.client.Username == "" {
		return cli, nil
	}
	defer cli.Close()
	for {
		known := f.client
		if end, ok := ctx.Deadline(); ok {
			known.DialTimeout = max(time.Until(end), etcdRetry)
		}
		user, err := etcdclient.New(known)
		if !etcdclient.IsUnavailable(err) {
			return user, err
		}
		select {
		case <-time.After(etcdRetry): // etcd may be electing a leader
		case <-ctx.Done():
			return nil, f.unserved(ctx, cli, err)
		}
	}
}

// startPatience is how long a command waits for an etcd that refuses connections, because "framegate serve", which runs one,
// may have been started a moment ago.
const startPatience = time.Second

// etcdRetry is the time between two tries.
const etcdRetry = 100 * time.Millisecond

// reach waits for up to startPatience until etcd takes calls, and returns nil or the last error.
func reach(ctx context.Context, cli *clientv3.Client) error {
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	tick := time.NewTicker(etcdRetry)
	defer tick.Stop()
	for {
		err := etcdclient.Reach(ctx, cli)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-patience.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// reason returns the text of an error of etcd; for the end of ctx, which is the command's, it names --timeout's value.
func (f *etcdConnection) reason(ctx context.Context, err error) string {
	if errors.Is(err, context.DeadlineExceeded) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", f.timeout)
	}
	return err.Error()
}

// unserved returns the error of a command whose request etcd did not serve, so that certainly nothing was changed.
func (f *etcdConnection) unserved(ctx context.Context, cli *clientv3.Client, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
	defer cancel()
	if gone := etcdclient.Reach(look, cli); gone != nil {
		return f.unavailable(ctx, gone)
	}
	return fmt.Errorf("etcd at %s takes calls but did not serve this one (%s), so that nothing was changed: it may be electing a leader; try again, or with a longer --timeout",
		f.endpoints(), f.reason(ctx, err))
}

// unknown returns the error of a command that may or may not have changed something.
func (f *etcdConnection) unknown(ctx context.Context, unknown *etcdclient.UnknownOutcomeError) error {
	what, look := fmt.Sprintf("%s %s", unknown.Kind, unknown.Name), fmt.Sprintf("%s get %s", unknown.Kind, unknown.Name)
	switch {
	case unknown.Name == "":
		what, look = unknown.Kind+"s", unknown.Kind+" list"
	case unknown.Kind == "service":
		look = "service list " + unknown.Name
	}
	return fmt.Errorf("%s: etcd at %s did not say what became of the change (%s): it may or may not have been made; look with framegate %s",
		what, f.endpoints(), f.reason(ctx, unknown.Err), look)
}

// unavailable returns the error of a command that could not reach etcd.
func (f *etcdConnection) unavailable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	reason := err.Error()
	if ctx.Err() != nil {
		reason = fmt.Sprintf("no answer within %s", f.timeout)
	}
	return fmt.Errorf("etcd at %s cannot be used (%s); start it (framegate serve runs one), or name another with --etcd ENDPOINT",
		f.endpoints(), reason)
}
