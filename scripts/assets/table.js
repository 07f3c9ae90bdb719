// What the page uses of TanStack Table: rows sorted by several columns.
export { constructTable, createSortedRowModel, rowSortingFeature, tableFeatures } from '@tanstack/table-core';
export { storeReactivityBindings } from '@tanstack/table-core/store-reactivity-bindings';
