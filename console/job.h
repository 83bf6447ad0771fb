/*-------------------------------------------------------------------------
 *
 * job.h
 *	  What a visitor has done in the database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CONSOLE_JOB_H
#define CONSOLE_JOB_H

#include "account.h"
#include "database.h"

typedef struct JobQueue JobQueue;
typedef struct Job Job;

/* How a job has ended: a result of one row with one column, or an error. */
typedef void (*JobDone) (PGresult *result, const Text *notices, const char *failure, void *closure);

/* The statement, with @ for its only argument. */
typedef const char *(*JobSql) (const DatabaseFacts *facts);

extern JobQueue *job_queue_new(Account *account);
extern void job_queue_free(JobQueue *queue);
extern Job *job_begin(JobQueue *queue, JobSql sql, const char *args, JobDone done, void *closure);
extern void job_abandon(Job *job);

#endif							/* CONSOLE_JOB_H */
