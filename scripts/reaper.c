/*
 * reaper.c: run a command, and be the parent of its orphans.
 *
 * A server that is killed hard is a zombie until its parent, by then init, has
 * waited for it, and until then its lock file counts as that of a running
 * server, so that the next start fails.  A container's first process may never
 * wait.  So the tests run below this one, which does.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	pid_t		child,
				pid;
	int			status;

	if (argc < 2)
		return 2;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	child = fork();
	if (child == 0)
	{
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	do
		pid = waitpid(-1, &status, 0);
	while (pid != child && (pid > 0 || errno == EINTR));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
