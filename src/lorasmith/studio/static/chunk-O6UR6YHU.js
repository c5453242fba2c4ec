import{l as n}from"./chunk-622GTCIE.js";var l=n(null);export{l as a};
