package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/framegate/framegate/resolver/plain"
)

// lookupTimeout bounds the DNS look-up of the host in an address.
const lookupTimeout = 5 * time.Second

// ValidateAddress returns every mistake in an address to listen on and its token, named by its configuration key. Without a
// token the host must be a loopback address, or a name that resolves to loopback addresses only.
func ValidateAddress(address, token string) error {
	var errs []error
	for _, c := range []byte(token) {
		if c <= ' ' || c >= 0x7f { // not allowed in a bearer token
			errs = append(errs, errors.New("admin.token: want printable ASCII characters without spaces"))
			break
		}
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	switch {
	case err != nil || strings.ContainsAny(host, " /"):
		errs = append(errs, fmt.Errorf("admin.address: %q, want host:port or none", plain.URL(address)))
	case token == "":
		if err := validateLoopback(host); err != nil {
			errs = append(errs, fmt.Errorf("admin.address: %q, %w", plain.URL(address), err))
		}
	}
	return errors.Join(errs...)
}

var errWantLoopback = errors.New("want a loopback address or admin.token set")

func validateLoopback(host string) error {
	if host == "" {
		return errWantLoopback
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupIPAddr(ctx, host) // an IP address is returned as it is, without a query
	if err != nil {
		return fmt.Errorf("%w: %w", errWantLoopback, err)
	}
	for _, a := range addrs {
		switch {
		case a.IP.IsLoopback():
		case net.ParseIP(host) != nil:
			return errWantLoopback
		default:
			return fmt.Errorf("which is %s, %w", a.IP, errWantLoopback)
		}
	}
	return nil
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
