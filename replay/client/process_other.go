//go:build !linux

package client

// listeningProcess is implemented on Linux only, where /proc names the owner of a port.
func listeningProcess(string) (serverProcess, error) { return serverProcess{}, ErrNoProgram }

func (p *serverProcess) helpCommand(int) (args, env []string, err error) {
	return nil, nil, ErrNoProgram
}
