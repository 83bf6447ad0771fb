// The charts of a run: dygraphs, dressed so that the strict policy of the page bears it, and readable without seeing it.
//
// A chart keeps its element (data-keep): the screen around it is drawn anew each second, the chart is fed.  The reasons of throttling are
// bands under the line, each with its colour, its name and its time in the legend, which is text.
//
// dygraphs' own legend writes styles into HTML, which the policy forbids and nobody needs here: it is taken out.

import { el, fragment, morph } from './dom.js';
import { bytes, clock, rate, span } from './format.js';

const charts = new Map();		// element -> { graph, key of what it was made for }

// Colours come from the style sheet, so that both themes have theirs.  A canvas wants the one in force: an element that has it on tells.
function colour(name)
{
	const probe = document.createElement('span');

	probe.style.color = `var(--${name})`;
	document.body.append(probe);
	const found = getComputedStyle(probe).color;
	probe.remove();
	return found;
}

// What a reason is called: what stands before its colon.
export function reasonName(text)
{
	return text ? String(text).split(':')[0] : null;
}

// Reasons in the order in which they were first met, so that one keeps its colour: numbers of the bands' colours.
const BANDS = 6;
const known = new Map([['rate_limit', 1], ['wal_rate_limit', 2], ['max_replica_lag', 3], ['window', 4], ['probe', 5]]);

function band(reason)
{
	if (!known.has(reason))
		known.set(reason, 1 + known.size % BANDS);
	return known.get(reason);
}

// The spans of time in which a reason held: [{ reason, from, to }] in ms.
function spans(series)
{
	const found = [];
	let last = null;

	series.forEach((point, i) =>
	{
		const reason = reasonName(point.reason);
		const to = Date.parse(point.at);
		const from = i > 0 ? Date.parse(series[i - 1].at) : to;

		if (reason && last && last.reason === reason && last.to >= from)
			last.to = to;
		else if (reason)
			found.push(last = { reason, from, to });
		else
			last = null;
	});
	return found;
}

function paintBands(canvas, area, graph, list)
{
	for (const { from, to, ground } of list)
	{
		const left = Math.max(graph.toDomXCoord(from), area.x);
		const right = Math.min(Math.max(graph.toDomXCoord(to), left + 2), area.x + area.w);

		if (right <= left)
			continue;
		canvas.fillStyle = ground;
		canvas.fillRect(left, area.y, right - left, area.h);
	}
}

const KINDS = {
	rate: {
		title: 'Rows per second', columns: ['rows_per_second'], labels: ['rows/s'], colours: ['line-1'], fill: true, bands: true, write: n => rate(n),
	},
	batch: {
		title: 'Time of a batch', columns: ['p50', 'p95', 'target'], labels: ['p50', 'p95', 'target'], colours: ['line-1', 'line-2', 'line-3'],
		dashes: { target: [6, 4] }, write: n => span(n / 1000),
	},
	wal: {
		title: 'WAL per second', columns: ['wal_per_second'], labels: ['WAL/s'], colours: ['line-4'], fill: true, bytes: true, write: n => bytes(n) + '/s',
	},
};

// The element for a chart; `feed` fills it once it is in the page.
export function place(kind, id, series)
{
	return el('figure', { class: 'chart-box chart-' + kind, 'data-key': kind },
		el('figcaption', null, el('h3', null, KINDS[kind].title),
			el('span', { class: 'readout', 'data-keep': `readout-${kind}-${id}` })),
		el('div', {
			class: series.length < 2 ? 'chart waits' : 'chart', role: 'img', 'data-keep': `chart-${kind}-${id}`, 'aria-label': summary(kind, series),
		}),
		KINDS[kind].bands && series.length > 1 ? legend(series) : null);
}

// The chart in a sentence, for those who do not see it.
function summary(kind, series)
{
	const { title, columns, labels, write } = KINDS[kind];

	if (series.length < 2)
		return title + ': nothing measured yet.';
	const last = series[series.length - 1];
	const parts = columns.map((column, i) =>
	{
		const values = series.map(p => p[column]).filter(v => v !== null && v !== undefined);

		return values.length === 0 ? null
			: `${labels[i]} at last ${write(last[column] ?? values[values.length - 1])}, at most ${write(Math.max(...values))}`;
	}).filter(Boolean);
	return `${title} over ${span((Date.parse(last.at) - Date.parse(series[0].at)) / 1000)}: ${parts.join('; ') || 'nothing measured yet'}.`;
}

// The reasons in the picture, as text: name and how long.
function legend(series)
{
	const times = new Map();

	for (const { reason, from, to } of spans(series))
		times.set(reason, (times.get(reason) || 0) + (to - from) / 1000);
	if (times.size === 0)
		return el('p', { class: 'legend quiet', 'data-key': 'legend' }, 'Nothing throttled the run in this time.');
	return el('ul', { class: 'legend', 'data-key': 'legend', 'aria-label': 'Throttled by' },
		[...times].map(([reason, s]) => el('li', { 'data-key': reason },
			el('span', { class: 'swatch band-' + band(reason), 'aria-hidden': 'true' }), reason, ' ', el('span', { class: 'quiet' }, span(s)))));
}

// Give the chart of that kind, wherever it stands below `root`, its data.
export function feed(root, kind, id, series)
{
	const what = KINDS[kind];
	const box = root.querySelector(`[data-keep="chart-${kind}-${id}"]`);
	const readout = root.querySelector(`[data-keep="readout-${kind}-${id}"]`);
	const theme = document.documentElement.dataset.theme + matchMedia('(prefers-color-scheme: dark)').matches;
	// dygraphs takes no hole at the beginning kindly, and needs two points for a line.
	const rows = series.map(p => [new Date(p.at), ...what.columns.map(c => p[c] === undefined || p[c] === null ? null : Number(p[c]))])
		.filter(row => row.slice(1).some(v => v !== null));
	let chart;

	if (!box || typeof Dygraph === 'undefined')
		return;
	chart = charts.get(box);
	if (rows.length < 2)
	{
		if (!chart && box.childElementCount === 0)
			box.append(el('p', { class: 'quiet' }, 'Nothing measured yet.'));
		return;
	}
	if (chart && chart.theme !== theme)
	{
		chart.graph.destroy();
		charts.delete(box);
		chart = null;
	}
	if (!chart)
	{
		for (const old of charts.keys())
			if (!old.isConnected)
			{
				charts.get(old).graph.destroy();
				charts.delete(old);
			}
		box.replaceChildren();
		box.classList.remove('waits');
		chart = { theme, series, rows, grounds: Array.from({ length: BANDS + 1 }, (_, i) => i > 0 ? colour('band-' + i) : null) };
		charts.set(box, chart);
		chart.graph = make(box, what, chart, readout);
	}
	chart.series = series;
	chart.rows = rows;
	chart.list = what.bands ? spans(series).map(s => ({ ...s, ground: chart.grounds[band(s.reason)] })) : [];
	chart.graph.updateOptions({ file: rows });
	if (!chart.pointed)
		read(readout, what, rows[rows.length - 1]);
}

// What stands beside the title: the values at one time.
function read(readout, what, row, reason)
{
	if (!readout || !row)
		return;
	morph(readout, fragment(
		what.labels.map((label, i) => el('span', { class: 'key' },
			what.labels.length > 1 ? el('span', { class: 'swatch ' + what.colours[i], 'aria-hidden': 'true' }) : null,
			what.labels.length > 1 ? label + ' ' : null,
			el('b', null, row[i + 1] === null ? '–' : what.write(row[i + 1])))),
		el('span', { class: 'quiet' }, ' at ' + clock(row[0]) + (reason ? ', ' + reason : ''))));
}

function make(box, what, chart, readout)
{
	const plugins = Dygraph.PLUGINS;
	let graph;

	Dygraph.PLUGINS = plugins.filter(plugin => plugin !== Dygraph.Plugins.Legend);
	graph = new Dygraph(box, chart.rows, {
		labels: ['time', ...what.labels],
		colors: what.colours.map(colour),
		strokeWidth: 1.5,
		fillGraph: !!what.fill,
		fillAlpha: 0.08,
		includeZero: true,
		yRangePad: 4,
		labelsKMB: !what.bytes,
		labelsKMG2: !!what.bytes,
		axisLineColor: colour('line'),
		gridLineColor: colour('line'),
		gridLineWidth: 0.5,
		axes: {
			x: { drawGrid: false, axisLabelWidth: 64, pixelsPerLabel: 80, ticker: wholeSeconds },
			y: { axisLabelWidth: 54, pixelsPerLabel: 28, axisLabelFormatter: n => n === 0 ? '0' : what.bytes ? bytes(n) : what.labels.length > 1 ? span(n / 1000) : short(n) },
		},
		series: Object.fromEntries(Object.entries(what.dashes || {}).map(([label, pattern]) => [label, { strokePattern: pattern, fillGraph: false }])),
		highlightCircleSize: 3,
		connectSeparatedPoints: false,
		// A finger scrolls the page.
		interactionModel: {},
		underlayCallback: (canvas, area, g) => paintBands(canvas, area, g, chart.list || []),
		highlightCallback: (event, x, points, row) =>
		{
			chart.pointed = true;
			const point = chart.series.find(p => Date.parse(p.at) === x);
			read(readout, what, chart.rows[row], point && point.reason);
		},
		unhighlightCallback: () =>
		{
			chart.pointed = false;
			read(readout, what, chart.rows[chart.rows.length - 1]);
		},
	});
	Dygraph.PLUGINS = plugins;
	return graph;
}

// The ticks of the axis of time.  dygraphs goes below a second in the first moments of a run, and then leaves out hour and minute.
function wholeSeconds(...asked)
{
	const ticks = Dygraph.dateTicker(...asked);

	return ticks.every(t => t.v % 1000 === 0) ? ticks
		: ticks.filter(t => t.v % 1000 === 0).map(t => ({ ...t, label: clock(t.v, t.v) }));
}

// A number in four characters: 1.2k, 35M.
function short(n)
{
	return new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format(n);
}
