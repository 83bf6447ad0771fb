// Three lists of a run: its batches, its errors, its events.  Each runs on by itself, the newest first.

import { act, ask, readOnly, sayAnswer } from './act.js';
import { el, fragment, table } from './dom.js';
import { bytes, count, plural, seconds, span, time } from './format.js';
import { pager, query, runNav, statusChip, tabs, withQuery } from './parts.js';

function head(data, what)
{
	const { run } = data;

	return [
		el('div', { class: 'head' }, el('h1', null, el('span', { class: 'id' }, '#' + run.id), ' ', run.name, ' ', statusChip(run.status))),
		runNav(run, what, run.errors),
		el('h2', { class: 'hidden' }, what),
	];
}

function batchStatus(batch)
{
	return [statusChip(batch.status), batch.skipped ? el('span', { class: 'quiet' }, ' skipped') : null];
}

const STATUSES = ['all', 'failed', 'pending', 'running', 'completed'];

// Where the next page of batches, or of rows that have failed, begins: behind this one.
function place(row)
{
	return `${row.number}.${row.part}` + (row.stream == null ? '' : `.${row.stream}`);
}

export const batches = {
	title: data => `Batches of #${data.run.id} ${data.run.name}`,
	view(data, context)
	{
		const chosen = query(context.path, 'status') || 'all';
		const last = data.batches[data.batches.length - 1];

		return fragment(
			head(data, 'Batches'),
			tabs('Which batches', STATUSES.map(name => [name, withQuery(context.path, { status: name === 'all' ? null : name, before: null }), name === chosen])),
			table({
				caption: 'Batches, the newest first', rows: data.batches, key: b => `batch-${b.number}-${b.part}-${b.stream ?? ''}`,
				empty: chosen !== 'all' ? 'No batch is such.'
					: 'There is no batch yet.',
				columns: [
					{ label: 'Batch', head: true, cell: b => [count(b.number) + (b.part > 0 ? `, part ${b.part}` : ''), b.stream == null ? null : el('span', { class: 'sub' }, b.stream)] },
					{ label: 'Status', cell: batchStatus },
					{ label: 'Keys', cell: b => el('span', { class: 'mono' }, b.key_range) },
					{ label: 'Rows', num: true, cell: b => count(b.rows_scanned) },
					{ label: 'Changed', num: true, cell: b => count(b.rows_affected) },
					{ label: 'Time', num: true, cell: b => b.duration === null ? '–' : span(seconds(b.duration)) },
					{ label: 'WAL', num: true, phone: false, cell: b => bytes(b.wal_bytes) },
					{ label: 'Attempt', num: true, phone: false, cell: b => b.attempt },
					{ label: 'By', phone: false, cell: b => b.client ? `client ${b.client}` : b.worker === null ? '–' : `worker ${b.worker}` },
					{ label: 'Finished', num: true, cell: b => b.status === 'running' ? ['begun ', time(b.started_at || b.claimed_at, data.now)] : time(b.finished_at || b.retry_at, data.now) },
					{ label: 'Last error', wide: true, cell: b => b.error ? el('span', { class: 'bad-text' }, b.error) : '' },
				],
			}),
			data.earlier && !data.more ? el('p', { class: 'quiet' }, `These are of the ${count(data.searched)} batches from number ${count(data.earlier)} on.`) : null,
			pager(context, data.more || data.earlier, data.more ? last && place(last) : data.earlier));
	},
};

function retry(run)
{
	return ask({
		title: `Retry the rows that run ${run.id} skipped?`,
		body: `${run.errors === undefined ? 'Every row' : plural(run.errors, 'row')} that the run has left out ${run.errors > 1 ? 'are' : 'is'} tried again. What is done is not done again.`,
		confirm: 'Retry',
		run: async () => sayAnswer(await act('retry', { id: run.id }), 'The rows are tried again.'),
	});
}

export const errors = {
	title: data => `Errors of #${data.run.id} ${data.run.name}`,
	view(data, context)
	{
		const last = data.errors[data.errors.length - 1];
		const open = data.errors.some(e => e.resolved_at === null && !e.repaired);

		return fragment(
			head(data, 'Errors'),
			open && !readOnly() ? el('div', { class: 'row' }, el('button', { class: 'primary', 'data-action': 'retry', onclick: () => retry(data.run) }, 'Retry the skipped rows…')) : null,
			table({
				caption: 'Errors, the newest first', rows: data.errors, key: e => `error-${e.number}-${e.part}-${e.stream ?? ''}-${(e.key || []).join('-')}`,
				empty: 'No row has failed.',
				columns: [
					{ label: 'Row', head: true, cell: e => el('span', { class: 'mono' }, (e.key || []).join(', ')) },
					{ label: 'State', cell: e => e.repaired ? el('span', { class: 'status status-completed' }, 'repaired')
						: e.resolved_at ? el('span', { class: 'status status-completed' }, 'resolved') : el('span', { class: 'status status-failed' }, 'skipped') },
					{ label: 'Message', wide: true, cell: e => [el('span', null, e.message), e.detail ? el('span', { class: 'sub' }, e.detail) : null,
						e.repair_error ? el('span', { class: 'sub' }, 'Repair: ' + e.repair_error) : null] },
					{ label: 'SQLSTATE', cell: e => el('span', { class: 'mono' }, e.sqlstate) },
					{ label: 'Batch', num: true, cell: e => [count(e.number) + (e.part > 0 ? `.${e.part}` : ''), e.stream == null ? null : el('span', { class: 'sub' }, e.stream)] },
					{ label: 'Attempts', num: true, cell: e => e.attempts },
					{ label: 'Last', num: true, cell: e => time(e.last_at, data.now) },
				],
			}),
			pager(context, data.more, last && place(last)));
	},
};

export const events = {
	title: data => `Events of #${data.run.id} ${data.run.name}`,
	view(data, context)
	{
		const last = data.events[data.events.length - 1];

		return fragment(
			head(data, 'Events'),
			table({
				caption: 'Events, the newest first', rows: data.events, key: e => 'event-' + e.id, empty: 'Nothing has happened yet.',
				columns: [
					{ label: 'When', head: true, cell: e => time(e.at, data.now) },
					{ label: 'What', cell: e => e.kind === 'transition' ? [e.previous_status ? [el('span', { class: 'quiet' }, e.previous_status), ' → '] : null, statusChip(e.status)]
						: e.kind === 'request' && e.status ? [e.kind, ' ', statusChip(e.status)] : e.kind },
					{ label: 'Who', cell: e => e.role || el('span', { class: 'quiet' }, 'backfill') },
					{ label: 'Why', wide: true, cell: e => e.reason || '' },
					{ label: 'Batch', num: true, cell: e => e.number === null ? '' : count(e.number) + (e.part > 0 ? `.${e.part}` : '') },
					{ label: 'SQLSTATE', cell: e => e.sqlstate ? el('span', { class: 'mono' }, e.sqlstate) : '' },
				],
			}),
			pager(context, data.more, last && last.id));
	},
};
