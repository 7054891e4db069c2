package deploy_test

import (
	"context"
	"errors"
	"net"
	"testing"
)

func freeAddr(t *testing.T) string {
	t.Helper()
	t.Skip("Windows has no SO_REUSEPORT")
	return ""
}

func listenShared(context.Context, string) (net.Listener, error) { return nil, errors.ErrUnsupported }
