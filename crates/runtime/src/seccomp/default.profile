# The engine's default system call filter. Semantics follow the profile Docker and containerd install by default:
# what is not named fails with EPERM; what administrates the machine needs the capability that belongs to it.
#
# [allow] or [errno N], then conditions: cap=NAME (the container has it), nocap=NAME (it has not).
# A name may carry tests of its arguments: name(0==8), name(0!=40), name(0&0x7e020000==0); a name may be given several times.

[allow]
# files
access cachestat chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr file_getattr
file_setattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64
getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lgetxattr link linkat
listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat
name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile setxattr
setxattrat splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink
unlinkat utime utimensat utimes vmsplice write writev

# waiting, timers, events
alarm clock_adjtime clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 adjtimex futex futex_requeue futex_wait futex_waitv
futex_wake getitimer gettimeofday io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit nanosleep pause
poll ppoll pselect6 restart_syscall select setitimer signalfd signalfd4 time timer_create timer_delete
timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times

# memory
brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect mremap
mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages

# sockets and System V and POSIX IPC
accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmsg semctl semget semop semtimedop sendmmsg
sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketpair

# processes, identity, limits
capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid geteuid getgid
getgroups getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid gettid
getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
lsm_get_self_attr lsm_list_modules lsm_set_self_attr pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64
process_vm_readv process_vm_writev ptrace rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid
setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid sigaltstack sysinfo tgkill
tkill uname vfork wait4 waitid
arch_prctl modify_ldt uretprobe

# 32-bit compatible personalities, and the question which it is
personality(0==0) personality(0==8) personality(0==0x20000) personality(0==0x20008) personality(0==0xffffffff)

# sockets of every family but the one that reaches the hypervisor (AF_VSOCK)
socket(0!=40)

[allow cap=DAC_READ_SEARCH]
open_by_handle_at

[allow cap=SYS_ADMIN]
bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree
open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare

# no new namespaces; clone3 hides its flags behind a pointer, and C libraries fall back on ENOSYS
[allow nocap=SYS_ADMIN]
clone(0&0x7e020000==0)
[errno 38 nocap=SYS_ADMIN]
clone3

[allow cap=SYS_BOOT]
reboot
[allow cap=SYS_CHROOT]
chroot
[allow cap=SYS_MODULE]
delete_module finit_module init_module
[allow cap=SYS_PACCT]
acct
[allow cap=SYS_PTRACE]
kcmp process_madvise
[allow cap=SYS_RAWIO]
ioperm iopl
[allow cap=SYS_TIME]
clock_settime settimeofday
[allow cap=SYS_TTY_CONFIG]
vhangup
[allow cap=SYS_NICE]
get_mempolicy mbind set_mempolicy set_mempolicy_home_node
[allow cap=SYSLOG]
syslog
[allow cap=BPF]
bpf
[allow cap=PERFMON]
perf_event_open
