package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/framegate/framegate/resolver/spec"
)

// dialTimeout bounds a connection with its TLS handshake.
const dialTimeout = 10 * time.Second

// dialer makes connections to servers. It reads the files that say how they are secured at each, so that new ones count
// without a restart.
type dialer struct{ tls *spec.ClientTLS } // nil for cleartext

// dial connects to host:port. Its errors are of the type *net.OpError with Op "dial", because what a client library tries
// again it tells by that.
func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || d.tls == nil {
		return conn, err
	}
	secure, err := d.handshake(ctx, conn, address)
	if err != nil {
		_ = conn.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Addr: conn.RemoteAddr(), Err: err}
	}
	return secure, nil
}

func (d dialer) handshake(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	conf, err := d.config(address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return c, nil
}

// config reads the files.
func (d dialer) config(address string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: d.tls.ServerName}
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(address)
	}
	if file := d.tls.CAFile; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file: %s, want certificates in PEM", file)
		}
	}
	if d.tls.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(d.tls.CertFile, d.tls.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", d.tls.CertFile, d.tls.KeyFile, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// readSecret returns what is in a file, without white space at its end.
func readSecret(file string) (string, error) {
	b, err := os.ReadFile(file)
	return strings.TrimRight(string(b), " \t\r\n"), err
}
