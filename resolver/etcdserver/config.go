package etcdserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/framegate/framegate/resolver/plain"
)

// DefaultAddress is the default of Config.Address.
const DefaultAddress = "127.0.0.1:2379"

// DefaultMaxConnections is the default of Config.MaxConnections.
const DefaultMaxConnections = 1024

// Config says where an embedded etcd keeps its data and listens, and who may use it. Clients that can write routes decide
// where calls go, so an Address beyond loopback needs TLS and a user, or Insecure.
type Config struct {
	Dir            string       // data directory, made if it does not exist; required
	Address        string       // IP:port, localhost:port or :port for clients, port 0 takes a free one; empty means DefaultAddress
	Insecure       bool         // allows clients that reach Address to read and write everything
	MaxConnections int          // of clients; a further one is reset. 0 means DefaultMaxConnections
	Log            *slog.Logger // gets what etcd logs as errors; nil drops it

	CertFile, KeyFile string // PEM files of the server's certificate, read again for each connection; both or none
	ClientCAFile      string // PEM file of the CAs that sign client certificates, which each client then needs; empty for none

	// Username may do everything, and other clients nothing; both or none. If Password changes, Start changes it in etcd.
	Username, Password string
}

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = DefaultAddress
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate returns every mistake of the configuration, each beginning with its key. It does not read files.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New(`dir: "", want a path`))
	}
	address := c.withDefaults().Address
	if err := validateAddress(address); err != nil {
		errs = append(errs, fmt.Errorf("address: %w", err))
	} else if host, _, _ := net.SplitHostPort(address); !c.mayListen(isLoopback(host)) {
		errs = append(errs, c.exposed(address))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, fmt.Errorf("cert_file: %q with key_file %q, want both files or none", c.CertFile, c.KeyFile))
	}
	if c.ClientCAFile != "" && c.CertFile == "" {
		errs = append(errs, fmt.Errorf("client_ca_file: %q without cert_file, want a certificate of the server too", c.ClientCAFile))
	}
	return errors.Join(errs...)
}

func validateAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("%q, want IP:port such as %s", plain.URL(address), DefaultAddress)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q, want a port from 0 to 65535", plain.URL(address))
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// mayListen reports whether the configuration allows to listen on a loopback address, or on another one.
func (c Config) mayListen(loopback bool) bool {
	return loopback || c.Insecure || c.CertFile != "" && c.Username != ""
}

// exposed returns the error for an address at which mayListen does not allow to listen.
func (c Config) exposed(address string) error {
	return fmt.Errorf("address: %q, want a loopback address, or cert_file beside etcd.username, or insecure: true", plain.URL(address))
}

// tlsConfig returns the server's TLS configuration, nil without a certificate.
func (c Config) tlsConfig() (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	info := transport.TLSInfo{CertFile: c.CertFile, KeyFile: c.KeyFile, TrustedCAFile: c.ClientCAFile, ClientCertAuth: c.ClientCAFile != ""}
	conf, err := info.ServerConfig()
	if err != nil {
		return nil, fmt.Errorf("etcd cert_file: %q with key_file %q and client_ca_file %q, want PEM files: %w", c.CertFile, c.KeyFile, c.ClientCAFile, err)
	}
	return conf, nil
}
